"""Be a CAD that is asked for service with an EIDO: eido_push.py PORT."""

import json
import sys

from websockets.sync.server import serve


def take(line):
    for text in line:
        [(kind, said)] = json.loads(text).items()
        answer = {"requestId": said["requestId"], "responseCode": 200, "responseText": "OK"}
        line.send(json.dumps({"response": answer}))
        about = said["eido"]["incidentComponent"]["incidentTypeInternalText"] if "eido" in said else "taken back"
        print(kind, said["requestId"], about, flush=True)


serve(take, "127.0.0.1", int(sys.argv[1])).serve_forever()
