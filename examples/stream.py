"""Follow the stream of incidents from a cursor on: stream.py http://HOST:PORT/PATH CURSOR [TOKEN]."""

import json
import sys
import urllib.request

request = urllib.request.Request(f"{sys.argv[1]}?after={sys.argv[2]}")  # noqa: S310
request.add_header("Authorization", f"Bearer {sys.argv[3] if len(sys.argv) > 3 else ''}")
for line in urllib.request.urlopen(request):  # noqa: S310
    name, _, said = line.decode().strip().partition(": ")
    if name == "id":
        cursor = said
    elif name == "data":
        print(cursor, json.loads(said)["data"]["properties"]["headline"], flush=True)
