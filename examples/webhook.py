"""Take incidents by webhook, and believe only what is signed: webhook.py PORT SECRET."""

import base64
import hashlib
import hmac
import http.server
import json
import sys


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body, head = self.rfile.read(int(self.headers["Content-Length"])), self.headers
        signed = f"{head['webhook-id']}.{head['webhook-timestamp']}.".encode() + body
        wanted = b"v1," + base64.b64encode(hmac.digest(sys.argv[2].encode(), signed, hashlib.sha256))
        genuine = hmac.compare_digest(wanted, (head["webhook-signature"] or "").encode())
        self.send_response(204 if genuine else 403), self.end_headers()
        print(json.loads(body)["data"]["properties"]["headline"] if genuine else "not signed", flush=True)


http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Hook).serve_forever()
