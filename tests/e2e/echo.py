"""An HTTP server that sends the same text in every answer: with 200 for `/v2/`, with 403 for every other path."""

import contextlib
import http.server
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def echo(text: bytes, content_type: str = "text/plain; charset=utf-8") -> Iterator[str]:
    """Yield the URL of the server, which registry clients accept as a registry that refuses every image."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/v2/" else 403)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        do_HEAD = do_GET  # noqa: N815 - the name that the library requires

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
