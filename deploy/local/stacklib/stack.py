# SPDX-License-Identifier: Apache-2.0
"""The stack as a whole: its folder, its state file, the order of starting and stopping."""

import json
import os
import shutil
import subprocess
import urllib.error

from .process import wait_until
from .services import (Daemon, EmbeddedBroker, KafkaBroker, Postgres, Redis, Simulator, call_admin,
                       free_port, write_secret)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
DAEMONS = (("producer", "producers"), ("worker", "workers"), ("scheduler", "schedulers"))
TENANT = "default"


class StackError(Exception):
    """Something a person can act on."""


class Stack:
    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        self.root = ROOT
        self.state = {}
        if os.path.exists(self.path("state.json")):
            with open(self.path("state.json"), encoding="utf-8") as file:
                self.state = json.load(file)

    # --- the folder ---------------------------------------------------------------------------

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def error(self, message):
        return StackError(message)

    def save(self):
        self.write(("state.json",), json.dumps(self.state, indent=1) + "\n")

    def write(self, parts, text, mode=0o644):
        path = self.path(*parts)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(path + ".new", path)

    def port(self, name):
        ports = self.state.setdefault("ports", {})
        if name not in ports:
            port = free_port()
            while port in ports.values():
                port = free_port()
            ports[name] = port
            self.save()
        return ports[name]

    def program(self, name):
        path = os.path.join(self.state.get("bin") or os.path.join(ROOT, "build"), name)
        if not os.path.exists(path):
            raise StackError(f"{path} is not built; run `make` first")
        return path

    # --- the parts ----------------------------------------------------------------------------

    def infrastructure(self):
        broker = KafkaBroker if self.state.get("broker") == "kafka" else EmbeddedBroker
        return [Postgres(self, "postgres"), Redis(self, "redis"), broker(self, "broker"),
                Simulator(self, "simulator")]

    def daemons(self, kind=None):
        return [Daemon(self, one, number) for one, plural in DAEMONS if kind in (None, one)
                for number in range(1, self.state.get(plural, 0) + 1)]

    def services(self):
        return self.infrastructure() + self.daemons()

    def service(self, name):
        for service in self.services():
            if service.name == name:
                return service
        names = ", ".join(service.name for service in self.services())
        raise StackError(f"no part is called {name!r}; there are {names or 'none (run up first)'}")

    def launch(self, service):
        """Starts it without waiting."""
        service.prepare()
        service.process.start(service.command(), service.environment(), self.folder_for(service),
                              service.preexec())

    def folder_for(self, service):
        return service.home() if isinstance(service, Postgres) else self.folder

    def await_answer(self, service):
        dead = []

        def is_settled():
            if service.answers():
                return True
            if service.process.state() == "dead":
                dead.append(service.name)
            return bool(dead)
        if not wait_until(is_settled, service.start_timeout_s) or dead:
            what = "died" if dead else f"did not answer within {service.start_timeout_s} s"
            raise StackError(f"{service.name} {what}; the end of {service.process.log_path}:\n"
                             f"{service.process.log_tail()}")

    def ensure(self, services):
        """Starts those that do not run, together, and waits until all answer."""
        for service in services:
            if service.process.state() == "dead":
                self.launch(service)
        for service in services:
            self.await_answer(service)

    # --- commands -----------------------------------------------------------------------------

    def up(self, arguments):
        for name in ("log", "pid", "config", "secrets"):
            os.makedirs(self.path(name), exist_ok=True)
        self.take_options(arguments)
        postgres, *others = self.infrastructure()
        for service in [postgres, *others]:
            if service.process.state() == "dead":
                self.launch(service)
        self.await_answer(postgres)
        postgres.after_start()
        self.write_configuration(postgres)
        self.migrate(postgres)
        for service in others:
            self.await_answer(service)
        self.ensure(self.daemons())
        self.write_environment(postgres)

    def take_options(self, arguments):
        state = self.state
        if any(service.process.state() != "dead" for service in self.services()):
            raise StackError(f"a stack runs in {self.folder}; `stack down --dir` it first")
        state["broker"] = arguments.broker
        state["processes"] = arguments.processes
        state["user_config"] = os.path.abspath(arguments.config) if arguments.config else None
        state["bin"] = os.path.abspath(arguments.bin) if arguments.bin else None
        for _, plural in DAEMONS:
            state[plural] = getattr(arguments, plural)
        for name in ("pepper", "data_key"):
            write_secret(self.path("secrets", name))
        self.save()

    def write_configuration(self, postgres):
        simulator = f"http://127.0.0.1:{self.port('simulator')}"
        self.write(("config", "defaults.yaml"), f"""\
# Written by the stack.  Webhooks to loopback are refused by default; this machine's are wanted here.
database_url: {postgres.url('nightshift_app')}
redis_url: redis://127.0.0.1:{self.port('redis')}
kafka_brokers: 127.0.0.1:{self.port('broker')}
broker_profile: {self.state['broker']}
secrets:
  pepper: file:{self.path('secrets', 'pepper')}
  data_key: file:{self.path('secrets', 'data_key')}
webhooks:
  allow_networks: [127.0.0.0/8, "::1/128"]
""")
        with open(os.path.join(ROOT, "deploy/local/simulator.yaml"), encoding="utf-8") as file:
            text = file.read().replace("SIMULATOR_URL", simulator)
        self.write(("config", "simulator.yaml"), text.replace(
            "PRICES", os.path.join(ROOT, "deploy/local/prices.json")))

    def migrate(self, postgres):
        command = [self.program("nightshift-migrate"), "--app-role", "nightshift_app"]
        environment = dict(os.environ, DATABASE_URL=postgres.url("nightshift"))
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StackError(f"nightshift-migrate failed: {done.stderr.strip()}")
        if "admin_key" not in self.state:
            # Not defaults.yaml: its database_url, of the daemons' role, would win.
            self.write(("config", "migrate.yaml"),
                       f"secrets: {{pepper: \"file:{self.path('secrets', 'pepper')}\"}}\n")
            done = subprocess.run([*command, "--create-admin-key", "stack", "--config",
                                   self.path("config", "migrate.yaml")],
                                  env=environment, capture_output=True, text=True, check=False)
            keys = [word for word in done.stdout.split() if word.startswith("ns_")]
            if done.returncode or len(keys) != 1:
                raise StackError(f"making the admin key failed: {done.stderr.strip()}")
            self.state["admin_key"] = keys[0]
            self.save()

    def write_environment(self, postgres):
        urls = [f"http://127.0.0.1:{self.port(daemon.name)}" for daemon in self.daemons("producer")]
        if "api_key" not in self.state and urls:
            self.create_tenant(urls[0])
        values = {
            "NIGHTSHIFT_URL": urls[0] if urls else "",
            "NIGHTSHIFT_API_KEY": self.state.get("api_key", ""),
            "NIGHTSHIFT_ADMIN_KEY": self.state["admin_key"],
            "NIGHTSHIFT_WEBHOOK_SECRET": self.state.get("webhook_secret", ""),
            "DATABASE_URL": postgres.url("nightshift"),
            "DATABASE_APP_URL": postgres.url("nightshift_app"),
            "REDIS_URL": f"redis://127.0.0.1:{self.port('redis')}",
            "KAFKA_BROKERS": f"127.0.0.1:{self.port('broker')}",
            "SIMULATOR_URL": f"http://127.0.0.1:{self.port('simulator')}",
            "METRICS_URLS": ",".join(f"http://127.0.0.1:{daemon.metrics_port()}/metrics"
                                     for daemon in self.daemons()),
            "NIGHTSHIFT_URLS": ",".join(urls),
        }
        self.write(("env",), "".join(f"{name}={value}\n" for name, value in values.items()), 0o600)

    def create_tenant(self, url):
        admin = self.state["admin_key"]
        try:
            tenant = call_admin(url, admin, "/admin/v1/tenants", {"id": TENANT, "name": "Default"})
            key = call_admin(url, admin, f"/admin/v1/tenants/{TENANT}/keys",
                             {"name": "stack", "scopes": ["jobs:write", "jobs:read"]})
        except urllib.error.HTTPError as error:
            raise StackError(f"making the first tenant failed: {error} "
                             f"{error.read().decode(errors='replace')}") from error
        self.state["webhook_secret"] = tenant["webhook_secret"]
        self.state["api_key"] = key["key"]
        self.save()

    def down(self, wipe=False):
        postgres, *others = self.infrastructure()
        daemons = self.daemons()
        for service in [*daemons, *others, postgres]:
            if service.process.state() == "stopped":
                service.process.cont()
        self.stop_together(daemons)
        self.stop_together(others)
        self.stop_together([postgres])
        if wipe:
            postgres.wipe()
            shutil.rmtree(self.folder, ignore_errors=True)

    def stop_together(self, services):
        for service in services:
            service.process.ask(service.stop_signal)
        for service in services:
            service.process.terminate(service.stop_signal, service.stop_timeout_s)

    def restart(self, name):
        service = self.service(name)
        service.process.terminate(service.stop_signal, service.stop_timeout_s)
        self.launch(service)
        self.await_answer(service)

    def kill(self, name):
        self.service(name).process.kill()

    def stop(self, name):
        self.require_alive(name).stop()

    def cont(self, name):
        self.require_alive(name).cont()

    def require_alive(self, name):
        process = self.service(name).process
        if process.state() == "dead":
            raise StackError(f"{name} is dead; `stack restart {name}` starts it")
        return process

    def print_status(self):
        """True when everything runs."""
        services = self.services() if self.state else []
        for service in services:
            print(f"{service.name:14} {service.process.state():8} {service.process.pid() or '-'}")
        return bool(services) and all(s.process.state() == "running" for s in services)
