import http.server, os
import fastsum, greeter
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{greeter.greet()} {fastsum.fastsum(100)} {os.getuid()}\n".encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("", 8000), Page).serve_forever()
