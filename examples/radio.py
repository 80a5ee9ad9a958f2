"""Take the line to read aloud by webhook: radio.py PORT."""

import http.server
import sys


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        line = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.send_response(204), self.end_headers()
        print(line, end="", flush=True)


http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Hook).serve_forever()
