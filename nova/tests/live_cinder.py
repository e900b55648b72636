"""What Nova asks Cinder for, with block devices of this host for volumes: Cinder itself has no part in it."""

import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Where hack/openstack.sh tells Nova that Cinder is.
ADDRESS = ("127.0.0.1", 8776)


class Cinder:
    """volumes are paths of devices by id, attachments are ids of volumes by theirs."""

    def __init__(self):
        self.volumes = {}
        self.attachments = {}
        handler = type("Handler", (_Handler,), {"cinder": self})
        self.server = ThreadingHTTPServer(ADDRESS, handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def volume(self, path):
        name = str(uuid.uuid4())
        self.volumes[name] = path
        return name

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, method, path, body):
        """(status, what is answered with)"""
        if path == "/":
            return 300, {"versions": [{"id": "v3.0", "status": "CURRENT", "version": "3.70", "min_version": "3.0"}]}
        kind, name = re.fullmatch(r"/v3/[0-9a-f]+/(\w+)/?([0-9a-f-]*).*", path).groups()
        if kind == "volumes":
            return 200, {"volume": self.shown(name)}
        if method == "POST" and not name:
            name = str(uuid.uuid4())
            self.attachments[name] = body["attachment"]["volume_uuid"]
        if name not in self.attachments:
            return 404, {"itemNotFound": {"code": 404, "message": name}}
        volume = self.attachments.pop(name) if method == "DELETE" else self.attachments[name]
        connection = {"driver_volume_type": "local", "device_path": self.volumes[volume], "attachment_id": name}
        shown = {"id": name, "volume_id": volume, "status": "attached", "connection_info": connection}
        return 200, {"attachment": shown}

    def shown(self, name):
        used = name in self.attachments.values()
        return {
            "id": name, "status": "in-use" if used else "available", "size": 1, "availability_zone": "nova",
            "created_at": "2026-01-01T00:00:00", "attachments": [], "name": "", "description": "", "volume_type": None,
            "snapshot_id": None, "bootable": "false", "metadata": {}, "multiattach": False,
            "shared_targets": False, "service_uuid": None,
        }  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    def _serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, shown = self.cinder.answer(self.command, self.path, json.loads(body or b"{}"))
        text = json.dumps(shown).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_DELETE = _serve

    def log_message(self, *args):
        pass
