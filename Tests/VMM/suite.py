#!/usr/bin/env python3
"""Tests of QEMU, unmodified, on the software TDX module: one line for each, as scripts/test-vmm calls it.

suite.py ROOT WORK [FILTER]: ROOT is a root directory with QEMU and its TDX firmware, WORK is mounted there as /trial and holds
bin/tdxctl and bin/libtdxd-vmm.so.
"""
import json
import os
import signal
import socket
import subprocess
import sys
import time

ROOT, WORK = sys.argv[1], sys.argv[2]
FILTER = sys.argv[3] if len(sys.argv) > 3 else ""
FIRMWARE = "/usr/share/ovmf/OVMF.inteltdx.ms.fd"
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
PATIENCE = 60


class Failed(Exception):
    pass


def check(holds, text):
    if not holds:
        raise Failed(text)


def eventually(condition, text, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < end, text() if callable(text) else text)
        time.sleep(0.02)


class QEMU:
    """One QEMU under tdxctl run, with QMP."""

    count = 0

    def __init__(self, guest="idle", *arguments, memory="512M", vcpus=2, run=(), ram=None, vga=None):
        QEMU.count += 1
        self.name = f"q{QEMU.count}"
        self.report_path = f"{WORK}/{self.name}.json"
        self.log_path = f"{WORK}/{self.name}.log"
        machine = "q35,kernel-irqchip=split,confidential-guest-support=tdx0"
        if ram:
            machine += ",memory-backend=ram0"
        command = ["/usr/sbin/chroot", ROOT, "/trial/bin/tdxctl", "run", "--guest", guest, "--report", f"/trial/{self.name}.json", *run, "--"]
        command += ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", memory, "-smp", str(vcpus)]
        command += ["-object", "tdx-guest,id=tdx0", "-machine", machine, "-bios", FIRMWARE, "-nodefaults", "-no-user-config"]
        command += ["-display", "none", "-serial", "stdio", "-qmp", f"unix:/trial/{self.name}.qmp,server=on,wait=off"]
        if ram:
            command += ["-object", f"memory-backend-{ram},id=ram0,size={memory}"]
        if vga:
            command += ["-device", vga]
        self.log = open(self.log_path, "wb")
        self.process = subprocess.Popen(
            command + list(arguments), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd="/",
            env=ENVIRONMENT)
        self.socket = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in self.children():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.kill()
        self.process.wait()
        if self.socket:
            self.socket.close()

    def children(self):
        """The VMM's own processes."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/cmdline", "rb") as file:
                        words = file.read().split(b"\0")
                except OSError:
                    continue
                if words[0] == b"/usr/bin/qemu-system-x86_64" and any(f"/{self.name}.qmp".encode() in word for word in words):
                    found.append(int(name))
        return found

    @property
    def pid(self):
        eventually(lambda: self.children(), lambda: f"QEMU does not run:\n{self.text}")
        return self.children()[0]

    @property
    def text(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    @property
    def report(self):
        with open(self.report_path) as file:
            return json.load(file)

    def has_report(self, condition):
        try:
            return condition(self.report)
        except (OSError, ValueError):
            return False

    def until(self, condition, text="the report"):
        eventually(lambda: self.has_report(condition), lambda: f"{text}:\n{self.text}")

    def says(self, words):
        eventually(lambda: words in self.text, lambda: f"QEMU does not say “{words}”:\n{self.text}")

    def connect(self):
        path = f"{WORK}/{self.name}.qmp"

        def attempt():
            check(self.process.poll() is None or self.children(), f"QEMU ended:\n{self.text}")
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(path)
            except OSError:
                connection.close()
                return False
            self.socket = connection
            return True

        eventually(attempt, lambda: f"no QMP:\n{self.text}")
        self.socket.settimeout(PATIENCE)
        self.stream = self.socket.makefile("rb")
        self.events = []
        self.stream.readline()
        self.qmp("qmp_capabilities")

    def qmp(self, command, **arguments):
        if self.socket is None:
            self.connect()
        message = {"execute": command}
        if arguments:
            message["arguments"] = arguments
        self.socket.sendall(json.dumps(message).encode() + b"\n")
        while True:
            line = self.stream.readline()
            check(line, f"QMP ended at {command}:\n{self.text}")
            answer = json.loads(line)
            if "event" in answer:
                self.events.append(answer["event"])
            else:
                check("return" in answer, f"{command}: {answer}")
                return answer["return"]

    def status(self):
        return self.qmp("query-status")["status"]

    def runs(self):
        eventually(lambda: self.status() == "running", lambda: f"not running:\n{self.text}")

    def wait(self, status=0):
        try:
            found = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"QEMU does not end:\n{self.text}")
        check(found == status, f"status {found}, expected {status}:\n{self.text}")
        return self

    def quit(self, status=0):
        self.qmp("quit")
        return self.wait(status)

    def clean(self):
        """The last report: the guest met what it expected, and nothing leaked."""
        report = self.report
        check(report["emulated"] is True, "the report does not say “emulated”")
        check(report["guest"]["failures"] == [], f"{report['guest']['failures']}")
        check(report.get("leaks") == {"key_ids": 0, "pages": 0, "trust_domains": 0}, f"leaks: {report.get('leaks')}\n{self.text}")
        check(all(domain["destroyed"] for domain in report["trust_domains"]), "a TD is there")
        check(not any("bug" in domain for domain in report["trust_domains"]), f"{report['trust_domains']}")
        check("emulated" in self.text and "Leaked" in self.text, f"no summary:\n{self.text}")
        return report


TESTS = []


def test(function):
    TESTS.append(function)
    return function


def script(text):
    path = f"{WORK}/guest-{len(os.listdir(WORK))}.txt"
    with open(path, "w") as file:
        file.write(text)
    return "/trial/" + os.path.basename(path)


@test
def the_library_exports_what_it_takes_the_place_of_and_nothing_else():
    """readelf of the library"""
    names = subprocess.run(
        ["nm", "-D", "--defined-only", f"{WORK}/bin/libtdxd-vmm.so"], capture_output=True, text=True, check=True).stdout
    found = {line.split()[2] for line in names.splitlines() if line.split()[1] in "TWDBRVi"}
    expected = set(
        "open open64 openat openat64 __open_2 __open64_2 __openat_2 __openat64_2 close dup dup2 dup3 fcntl fcntl64 ioctl "
        "fallocate fallocate64 mmap mmap64".split())
    check(found == expected, f"{sorted(found ^ expected)}")
    needed = subprocess.run(
        ["readelf", "-d", f"{WORK}/bin/libtdxd-vmm.so"], capture_output=True, text=True, check=True).stdout
    libraries = {line.split("[")[1].rstrip("]") for line in needed.splitlines() if "(NEEDED)" in line}
    allowed = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6", "libgcrypt.so.20", "ld-linux-x86-64.so.2"}
    check(libraries <= allowed, f"{sorted(libraries - allowed)}")


@test
def without_the_library_qemu_has_no_tdx_here():
    with QEMU(run=["--emulate", "never"]) as qemu:
        qemu.wait(1)
        check("vm-type TDX not supported by KVM" in qemu.text, qemu.text)
        check("TDX was not emulated, as asked for" in qemu.text, qemu.text)


@test
def an_idle_guest_runs_stops_continues_and_quits():
    with QEMU("idle") as qemu:
        qemu.runs()
        qemu.until(lambda report: report["guest"]["state"] == "finished")
        qemu.qmp("stop")
        check(qemu.status() == "paused", qemu.status())
        qemu.qmp("cont")
        check(qemu.status() == "running", qemu.status())
        qemu.quit()
        qemu.clean()


@test
def mrtd_is_what_an_independent_program_computes_of_the_image():
    expected = subprocess.run(
        [sys.executable, f"{WORK}/tdvf_mrtd.py", ROOT + FIRMWARE], capture_output=True, text=True, check=True).stdout.strip()
    with QEMU("idle") as qemu:
        qemu.until(lambda report: report["guest"]["state"] == "finished")
        qemu.quit()
        domain = qemu.clean()["trust_domains"][0]
        check(domain["mrtd"] == expected, f"{domain['mrtd']} is not {expected}")
        check(domain["loaded_pages"] == 1050 and domain["measured_pages"] > 0, f"{domain}")


@test
def a_guest_that_boots_accepts_all_and_converts_5000_times():
    with QEMU("boot", run=["--end-with-guest"]) as qemu:
        qemu.wait()
        report = qemu.clean()
        check("made 5000 small conversions" in qemu.text, qemu.text)
        domain = report["trust_domains"][0]
        check(domain["exits"]["HYPERCALL MAP_GPA_RANGE"] == 5000, f"{domain['exits']}")
        check(domain["to_shared"] == 2500 and domain["punched_bytes"] == domain["to_shared_bytes"], f"{domain}")
        check(domain["seamcalls"]["TDH.MEM.PAGE.AUG"] > 130000, f"{domain['seamcalls']}")


@test
def a_guest_that_boots_lazily_converts_5000_times():
    with QEMU("boot-lazy", run=["--end-with-guest"]) as qemu:
        qemu.wait()
        domain = qemu.clean()["trust_domains"][0]
        check(domain["exits"]["HYPERCALL MAP_GPA_RANGE"] == 5000, f"{domain['exits']}")
        check(domain["seamcalls"]["TDH.MEM.PAGE.AUG"] < 20000, f"{domain['seamcalls']}")


@test
def a_quote_without_a_quoting_service_is_refused_by_qemu_and_told():
    with QEMU("quote", run=["--end-with-guest"]) as qemu:
        qemu.wait()
        exits = qemu.clean()["trust_domains"][0]["exits"]
        for name in ["TDX GetQuote", "TDX GetTdVmCallInfo", "TDX SetupEventNotifyInterrupt"]:
            check(exits.get(name) == 1, f"{exits}")
        check("GetQuote: the quoting service is not available" in qemu.text, qemu.text)


@test
def a_fatal_error_of_the_guest_ends_qemu_as_a_panic():
    with QEMU("fatal") as qemu:
        qemu.wait()
        check(qemu.clean()["trust_domains"][0]["exits"]["SYSTEM_EVENT TDX_FATAL"] == 1, qemu.text)


@test
def a_guest_that_resets_gets_a_new_td_each_time():
    with QEMU("reset", run=["--end-with-guest"]) as qemu:
        qemu.wait()
        domains = qemu.clean()["trust_domains"]
        check(len(domains) == 3, f"{len(domains)} TDs")
        check([domain["key_id"] for domain in domains] == [33, 34, 33], f"{[domain['key_id'] for domain in domains]}")
        check(len({domain["mrtd"] for domain in domains}) == 1, "MRTDs differ")


@test
def system_reset_twice_under_load():
    with QEMU("storm") as qemu:
        for generation in range(1, 4):
            qemu.until(lambda report: len(report["trust_domains"]) == generation and report["trust_domains"][-1].get("mrtd"))
            qemu.runs()
            qemu.says("converts without an end")
            if generation < 3:
                qemu.qmp("system_reset")
        qemu.quit()
        check(len(qemu.clean()["trust_domains"]) == 3, qemu.text)


@test
def a_storm_is_stopped_and_goes_on():
    with QEMU("storm") as qemu:
        qemu.says("converts without an end")
        for _ in range(5):
            qemu.qmp("stop")
            check(qemu.status() == "paused", qemu.status())
            qemu.qmp("cont")
        qemu.runs()
        qemu.quit()
        exits = qemu.clean()["trust_domains"][0]["exits"]
        check(exits["HYPERCALL MAP_GPA_RANGE"] > 10, f"{exits}")


@test
def sigterm_ends_qemu_in_order():
    with QEMU("storm") as qemu:
        qemu.says("converts without an end")
        os.kill(qemu.pid, signal.SIGTERM)
        qemu.wait()
        qemu.clean()


@test
def sigterm_to_tdxctl_is_passed_on():
    with QEMU("idle") as qemu:
        qemu.until(lambda report: report["guest"]["state"] == "finished")
        qemu.process.terminate()
        qemu.wait()
        qemu.clean()


@test
def a_killed_qemu_is_told_as_killed():
    with QEMU("storm") as qemu:
        qemu.says("converts without an end")
        os.kill(qemu.pid, signal.SIGKILL)
        qemu.wait(128 + 9)
        check("killed by SIGKILL" in qemu.text and "unknown: the VMM's process did not end by itself" in qemu.text, qemu.text)


@test
def the_background_is_no_obstacle():
    pidfile = f"{WORK}/daemon.pid"
    with QEMU("boot-lazy", "-daemonize", "-serial", "null", "-pidfile", "/trial/daemon.pid") as qemu:
        # A terminal's stdio cannot go to the background.
        qemu.wait(1)
        check("-daemonize" in qemu.text, qemu.text)
    name = f"q{QEMU.count}"
    command = [
        "/usr/sbin/chroot", ROOT, "/trial/bin/tdxctl", "run", "--guest", "boot-lazy", "--report", f"/trial/{name}.json", "--",
        "qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "512M", "-object", "tdx-guest,id=tdx0", "-machine",
        "q35,kernel-irqchip=split,confidential-guest-support=tdx0", "-bios", FIRMWARE, "-nodefaults", "-display", "none",
        "-daemonize", "-pidfile", "/trial/daemon.pid"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, env=ENVIRONMENT)
    check(done.returncode == 0, done.stderr)
    with open(pidfile) as file:
        pid = int(file.read())
    try:
        def finished():
            try:
                with open(f"{WORK}/{name}.json") as file:
                    return json.load(file)["guest"]["state"] == "finished"
            except (OSError, ValueError, KeyError):
                return False
        eventually(finished, "the guest does not finish")
    finally:
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), "the daemon does not end")
    with open(f"{WORK}/{name}.json") as file:
        check(json.load(file)["leaks"]["trust_domains"] == 0, "a TD is there")


@test
def libvirts_sandbox_is_no_obstacle():
    with QEMU("boot-lazy", "-sandbox", SANDBOX) as qemu:
        qemu.until(lambda report: report["guest"]["state"] == "finished")
        qemu.qmp("system_reset")
        qemu.until(lambda report: len(report["trust_domains"]) == 2 and report["trust_domains"][1].get("mrtd"))
        qemu.quit()
        qemu.clean()


@test
def a_display_splits_the_slots_of_one_file():
    with QEMU("boot-lazy", vga="VGA") as qemu:
        qemu.until(lambda report: report["guest"]["state"] == "finished")
        qemu.runs()
        qemu.quit()
        qemu.clean()


@test
def shared_memory_may_be_a_memfd():
    with QEMU("boot-lazy", ram="memfd", run=["--end-with-guest"]) as qemu:
        qemu.wait()
        qemu.clean()


@test
def private_memory_may_be_memfds_of_the_emulator():
    with QEMU("boot-lazy", run=["--end-with-guest", "--backing", "memfd"], vga="VGA") as qemu:
        qemu.wait()
        check(qemu.clean()["backend"] == "memfd", "the backend")


@test
def sixteen_gibibytes():
    with QEMU("boot-lazy", memory="16G", run=["--end-with-guest"]) as qemu:
        qemu.wait()
        check(qemu.clean()["trust_domains"][0]["guest_memory_bytes"] > 16 << 30, "the memory")


@test
def eight_vcpus_in_a_storm():
    with QEMU("storm", vcpus=8) as qemu:
        qemu.says("converts without an end")
        qemu.qmp("stop")
        qemu.qmp("cont")
        qemu.runs()
        qemu.quit()
        check(qemu.clean()["trust_domains"][0]["vcpus"] == 8, "vCPUs")


@test
def a_script_drives_the_vmm_and_checks_what_it_does():
    guest = script(
        """
        accept all
        write 64M "private"
        convert 64M 4M shared
        expect 64M 00000000000000      # QEMU has discarded the private side
        write 64M "shared"
        expect 64M "shared"
        convert 64M 4M private
        expect 64M 00000000000000
        port write 0x80 1 0x42
        port read 0x92 1
        mmio read 0xfed00000 8         # the HPET's identity
        vmcall 0x10000 r12=1 expect r10=0
        repeat 3
            wait 2
            print "tick "
        end
        poweroff
        """)
    with QEMU(guest) as qemu:
        qemu.wait()
        report = qemu.clean()
        check("tick tick tick " in qemu.text, qemu.text)
        check(report["trust_domains"][0]["exits"].get("MMIO") == 1, f"{report['trust_domains'][0]['exits']}")


@test
def a_script_whose_expectation_fails_makes_the_status_1():
    with QEMU(script("accept 64M 4K\nexpect 64M 01\n"), run=["--end-with-guest"]) as qemu:
        qemu.wait(1)
        check("line 2: 0x4000000 has 00, expected 01" in qemu.text, qemu.text)


@test
def the_documents_example_for_ci_passes():
    with open(f"{WORK}/vmm.md") as file:
        example = file.read().split("```sh\n")[1].split("```")[0]
    done = subprocess.run(
        ["/usr/sbin/chroot", ROOT, "sh", "-ec", "cd /trial; PATH=/trial/bin:$PATH\n" + example], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=PATIENCE, env=ENVIRONMENT)
    check(done.returncode == 0 and "all is well" in done.stdout, done.stdout + done.stderr)
    with open(f"{WORK}/report.json") as file:
        report = json.load(file)
    check(report["guest"]["failures"] == [] and report["guest"]["steps"] == 9, f"{report['guest']}")
    check(report["leaks"] == {"key_ids": 0, "pages": 0, "trust_domains": 0}, f"{report['leaks']}")


@test
def what_qemu_cannot_convert_stops_the_vm_and_is_seen():
    # No memory is at 3 GiB, and QEMU refuses to make it private.
    with QEMU(script("convert 3G 4K private\n")) as qemu:
        eventually(lambda: qemu.status() == "internal-error", lambda: qemu.text)
        qemu.quit()


@test
def an_ordinary_vm_under_the_library_is_the_kernels_alone():
    with QEMU() as other:
        other.quit()
    name = "plain"
    command = [
        "/usr/sbin/chroot", ROOT, "/trial/bin/tdxctl", "run", "--", "qemu-system-x86_64", "-accel", "kvm", "-m", "64M", "-nodefaults",
        "-display", "none", "-qmp", f"unix:/trial/{name}.qmp,server=on,wait=off"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT)
    try:
        qemu = QEMU.__new__(QEMU)
        qemu.name, qemu.process, qemu.socket, qemu.log_path = name, process, None, "/dev/null"
        qemu.runs()
        qemu.qmp("quit")
        text, _ = process.communicate(timeout=PATIENCE)
        check(process.returncode == 0, text)
        check("TD 1" not in text, text)
    finally:
        process.kill()
        process.wait()


def main():
    version = subprocess.run(["/usr/sbin/chroot", ROOT, "qemu-system-x86_64", "--version"], capture_output=True, text=True).stdout
    print(version.splitlines()[0], flush=True)
    passed, failed = 0, 0
    for function in TESTS:
        name = function.__name__.replace("_", " ")
        if FILTER not in name and FILTER not in function.__name__:
            continue
        begin = time.monotonic()
        try:
            function()
            passed += 1
            print(f"PASS  {name} ({time.monotonic() - begin:.1f} s)", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAIL  {name}: {error!r}" if not isinstance(error, Failed) else f"FAIL  {name}: {error}", flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed or not passed else 0)


main()
