#!/usr/bin/env python3
"""Real receivers of alerts on loopback, each in a folder of its own, none of them privileged or installed as a service.

As a program (for the unit tests of the sinks): peers.py KIND FOLDER starts one, prints what there is to know of it as one
JSON line, and ends it when standard input ends. KIND: syslog, syslog-tls, https, smtp, smtp-tls.
"""

import base64
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time

# Of the Debian package that aiosmtpd is installed for, whichever python runs the tests.
DEBIAN_PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
USER, PASSWORD = "sender@daemoneye.example", "s3cret of the mail"


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


class Certificates:
    """A CA, a server (localhost, 127.0.0.1) and a client it vouches for, and a CA that vouches for nobody."""

    def __init__(self, folder):
        self.folder = os.path.join(folder, "certificates")
        self.ca, self.server, self.client = self._path("ca.pem"), self._path("server.pem"), self._path("client.pem")
        self.server_key, self.client_key = self._path("server.key"), self._path("client.key")
        self.other_ca = self._path("other-ca.pem")
        if os.path.isdir(self.folder):
            return
        os.makedirs(self.folder, mode=0o755)
        self._make_ca("ca")
        self._make_ca("other-ca")
        self._sign("server", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self._sign("client", "extendedKeyUsage=clientAuth")

    def _path(self, name):
        return os.path.join(self.folder, name)

    def _make_ca(self, name):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-subj", f"/CN=DaemonEye test {name}", "-keyout", self._path(name + ".key"), "-out",
                self._path(name + ".pem"))

    def _sign(self, name, extension):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
                f"/CN=daemoneye-{name}", "-addext", extension, "-keyout", self._path(name + ".key"), "-out",
                self._path(name + ".csr"))
        openssl("x509", "-req", "-in", self._path(name + ".csr"), "-CA", self.ca, "-CAkey", self._path("ca.key"),
                "-CAcreateserial", "-days", "2", "-copy_extensions", "copy", "-out", self._path(name + ".pem"))
        os.chmod(self._path(name + ".key"), 0o640)


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, condition, seconds=20.0):
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds:g} s in vain for: {what}")
        time.sleep(0.01)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def program(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


class Peer:
    """A process that is ended with its peer object."""

    process = None

    def _start(self, command):
        self.log = os.path.join(self.folder, "peer.log")
        with open(self.log, "ab") as log:
            # A session of its own: Apache ends its whole process group.
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            start_new_session=True)

    def _ready(self, condition):
        def check():
            if self.process.poll() is not None:
                raise RuntimeError(f"{type(self).__name__} ended: " + open(self.log, errors="replace").read()[-2000:])
            return condition()

        return wait_for(f"{type(self).__name__} to listen", check)

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @staticmethod
    def _lines(path):
        if not os.path.exists(path):
            return []
        with open(path, encoding="utf-8", errors="replace") as file:
            return [json.loads(line) for line in file if line.endswith("\n")]


class Rsyslog(Peer):
    """rsyslogd: TCP, UDP and a Unix socket, or TLS with client certificates. What came, field by field, in `received`."""

    def __init__(self, folder, certificates=None):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.received_path = os.path.join(folder, "received.jsonl")
        self.certificates = certificates
        self.port = None
        self.start()

    def start(self):
        path = lambda name: os.path.join(self.folder, name)  # noqa: E731
        port_file = path("port")
        if os.path.exists(port_file):
            os.unlink(port_file)
        port = self.port or 0
        conf = [f'global(workDirectory="{self.folder}" maxMessageSize="1m" parser.escapeControlCharactersOnReceive="off")']
        if self.certificates:
            certificates = self.certificates
            conf += [
                f'global(defaultNetstreamDriver="ossl" defaultNetstreamDriverCAFile="{certificates.ca}"'
                f' defaultNetstreamDriverCertFile="{certificates.server}"'
                f' defaultNetstreamDriverKeyFile="{certificates.server_key}")',
                'module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1"'
                ' streamDriver.authMode="x509/certvalid")',
            ]
            self.udp_port = self.socket = None
        else:
            self.udp_port = free_port(socket.SOCK_DGRAM)
            self.socket = path("log")
            conf += [
                'module(load="imtcp")',
                'module(load="imudp")',
                f'input(type="imudp" address="127.0.0.1" port="{self.udp_port}")',
                'module(load="imuxsock" sysSock.use="off")',
                f'input(type="imuxsock" socket="{self.socket}" useSpecialParser="off" parseHostname="on")',
            ]
        conf += [
            f'input(type="imtcp" address="127.0.0.1" port="{port}" listenPortFileName="{port_file}")',
            'template(name="fields" type="list" option.jsonf="on") {',
            '  property(outname="pri" name="pri" format="jsonf")',
            '  property(outname="facility" name="syslogfacility-text" format="jsonf")',
            '  property(outname="severity" name="syslogseverity-text" format="jsonf")',
            '  property(outname="version" name="protocol-version" format="jsonf")',
            '  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")',
            '  property(outname="host" name="hostname" format="jsonf")',
            '  property(outname="app" name="app-name" format="jsonf")',
            '  property(outname="procid" name="procid" format="jsonf")',
            '  property(outname="msgid" name="msgid" format="jsonf")',
            '  property(outname="data" name="structured-data" format="jsonf")',
            '  property(outname="msg" name="msg" format="jsonf")',
            '}',
            f'action(type="omfile" file="{self.received_path}" template="fields")',
        ]
        with open(path("rsyslog.conf"), "w", encoding="utf-8") as file:
            file.write("\n".join(conf) + "\n")
        self._start([program("rsyslogd"), "-n", "-f", path("rsyslog.conf"), "-i", path("pid")])
        if not self.port:  # a port that it was told is not written down
            self._ready(lambda: os.path.exists(port_file) and open(port_file, encoding="utf-8").read().strip())
            self.port = int(open(port_file, encoding="utf-8").read())
        self._ready(lambda: listens(self.port))
        if self.socket:
            self._ready(lambda: os.path.exists(self.socket))

    def received(self):
        return self._lines(self.received_path)

    def describe(self):
        return {"port": self.port, "udp_port": self.udp_port, "socket": self.socket, "received": self.received_path}


CGI = """#!/usr/bin/env python3
import base64, json, os, sys
entry = {"method": os.environ["REQUEST_METHOD"], "path": os.environ["REQUEST_URI"],
         "client": os.environ.get("SSL_CLIENT_S_DN_CN", ""),
         "connection": os.environ.get("REMOTE_PORT", ""), "https": os.environ.get("HTTPS", ""),
         "headers": {k[5:].lower().replace("_", "-"): v for k, v in os.environ.items() if k.startswith("HTTP_")},
         "type": os.environ.get("CONTENT_TYPE", ""),
         "body": base64.b64encode(sys.stdin.buffer.read()).decode()}
entry["headers"]["authorization"] = os.environ.get("HTTP_AUTHORIZATION", "")
with os.fdopen(os.open("RECEIVED", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), "a") as file:
    file.write(json.dumps(entry) + "\\n")
if os.environ["REQUEST_URI"].startswith("/refuse"):
    print("Status: 422 Unprocessable Entity\\nContent-Type: text/plain\\n\\nno such team")
else:
    print("Status: 200 OK\\nContent-Type: text/plain\\n\\nthank you")
"""


class Https(Peer):
    """Apache with TLS that wants a client certificate, and a CGI program behind it that writes down what it got. /gzip
    takes compressed bodies only; /moved redirects; /refuse answers 422."""

    MODULES = ["mpm_prefork", "authz_core", "ssl", "cgi", "alias", "deflate", "filter", "setenvif", "env", "mime"]

    def __init__(self, folder, certificates):
        self.folder = folder
        self.certificates = certificates
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o777)  # its workers run as nobody when it is started by root
        self.received_path = os.path.join(folder, "received.jsonl")
        self.port = free_port()
        script = os.path.join(folder, "receive.py")
        with open(script, "w", encoding="utf-8") as file:
            file.write(CGI.replace("RECEIVED", self.received_path))
        os.chmod(script, 0o755)
        modules = "\n".join(f"LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so" for m in self.MODULES)
        conf = f"""
ServerRoot {folder}
PidFile {folder}/pid
Mutex file:{folder}
DefaultRuntimeDir {folder}
ServerName localhost
Listen 127.0.0.1:{self.port} https
{modules}
{"User nobody" if os.geteuid() == 0 else ""}
{"Group nogroup" if os.geteuid() == 0 else ""}
StartServers 1
MinSpareServers 1
MaxSpareServers 4
KeepAlive On
KeepAliveTimeout 30
ErrorLog {folder}/error.log
TypesConfig /dev/null
SSLEngine on
SSLProtocol -all +TLSv1.2 +TLSv1.3
SSLCertificateFile {certificates.server}
SSLCertificateKeyFile {certificates.server_key}
SSLCACertificateFile {certificates.ca}
SSLVerifyClient require
SSLOptions +StdEnvVars
SetEnvIf Authorization "(.+)" HTTP_AUTHORIZATION=$1
Redirect 302 /moved /alerts
ScriptAlias /alerts {script}
ScriptAlias /refuse {script}
ScriptAlias /gzip {script}
<Location /gzip>
  SetInputFilter DEFLATE
</Location>
<Directory {folder}>
  Require all granted
</Directory>
"""
        with open(os.path.join(folder, "apache.conf"), "w", encoding="utf-8") as file:
            file.write(conf)
        self._start([program("apache2"), "-f", os.path.join(folder, "apache.conf"), "-DFOREGROUND"])
        self._ready(lambda: listens(self.port))

    def received(self):
        entries = self._lines(self.received_path)
        for entry in entries:
            entry["body"] = base64.b64decode(entry["body"])
        return entries

    def describe(self):
        return {"port": self.port, "received": self.received_path}


class Smtp(Peer):
    """aiosmtpd: STARTTLS (or TLS from the first byte) and a login required; refuses nobody@ for good and later@ for
    now."""

    def __init__(self, folder, certificates, security="starttls"):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.received_path = os.path.join(folder, "received.jsonl")
        self.port = free_port()
        self._start([DEBIAN_PYTHON, os.path.abspath(__file__), "run-smtp", str(self.port), certificates.server,
                     certificates.server_key, self.received_path, security])
        self._ready(lambda: listens(self.port))

    def received(self):
        entries = self._lines(self.received_path)
        for entry in entries:
            entry["content"] = base64.b64decode(entry["content"])
        return entries

    def describe(self):
        return {"port": self.port, "received": self.received_path, "user": USER, "password": PASSWORD}


def run_smtp(port, certificate, key, received, security):
    import asyncio

    starttls = security == "starttls"

    from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

    class Handler:
        async def handle_RCPT(self, _server, _session, envelope, address, _options):
            if address.startswith("nobody@"):
                return "550 5.1.1 no such mailbox"
            if address.startswith("later@"):
                return "451 4.3.0 come again later"
            envelope.rcpt_tos.append(address)
            return "250 OK"

        async def handle_DATA(self, _server, session, envelope):
            entry = {"from": envelope.mail_from, "to": envelope.rcpt_tos, "tls": not starttls or session.ssl is not None,
                     "login": session.authenticated, "peer_port": session.peer[1],
                     "content": base64.b64encode(envelope.original_content).decode()}
            with open(received, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
            return "250 OK"

    def authenticate(_server, _session, _envelope, _mechanism, data):
        good = isinstance(data, LoginPassword) and data.login == USER.encode() and data.password == PASSWORD.encode()
        return AuthResult(success=good, handled=False)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def serve():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: SMTP(Handler(), hostname="localhost", tls_context=context if starttls else None,
                         require_starttls=starttls, auth_require_tls=starttls, auth_required=True,
                         authenticator=authenticate, loop=loop),
            "127.0.0.1", port, ssl=None if starttls else context)
        await server.serve_forever()

    asyncio.run(serve())


def start(kind, folder):
    certificates = Certificates(folder)
    at = os.path.join(folder, kind)
    if kind == "syslog":
        peer = Rsyslog(at)
    elif kind == "syslog-tls":
        peer = Rsyslog(at, certificates)
    elif kind == "https":
        peer = Https(at, certificates)
    elif kind == "smtp":
        peer = Smtp(at, certificates)
    elif kind == "smtp-tls":
        peer = Smtp(at, certificates, "tls")
    else:
        raise SystemExit(f"unknown kind {kind}")
    return peer, certificates


def main():
    if sys.argv[1] == "run-smtp":
        run_smtp(int(sys.argv[2]), *sys.argv[3:7])
        return
    peer, certificates = start(sys.argv[1], sys.argv[2])
    with peer:
        known = {name: getattr(certificates, name) for name in ("ca", "other_ca", "client", "client_key")}
        print(json.dumps({**known, **peer.describe()}), flush=True)
        for line in sys.stdin:  # "restart" and the end
            if line.strip() == "restart":
                peer.close()
                peer.start()
                print("{}", flush=True)


if __name__ == "__main__":
    main()
