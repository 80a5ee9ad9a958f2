"""Take CAP alerts by webhook: cap.py PORT."""

import http.server
import sys
from xml.etree import ElementTree as ET


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        alert = ET.fromstring(self.rfile.read(int(self.headers["Content-Length"])))  # noqa: S314 - from our own bridge
        said = {part.tag.partition("}")[2]: part.text for part in alert.iter()}
        self.send_response(204), self.end_headers()
        print(said["status"], said["msgType"], said["certainty"], said["headline"], flush=True)


http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Hook).serve_forever()
