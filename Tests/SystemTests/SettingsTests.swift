import ControlInterface
import Glibc
import LinuxSystem
import ServiceSupport
import SystemPackage
import Testing
import Varlink

/// Every setting of tdxd.conf and what it changes, through the real programs. A setting without a case fails the last test.
@Suite struct SettingsTests {
    /// Shows the effect of one setting.
    struct Case: Sendable, CustomTestStringConvertible {
        var setting: String
        /// Why this machine cannot show it; nil where it can.
        var obstacle: String?
        var show: @Sendable () throws -> Void

        var testDescription: String { setting }

        init(_ setting: String, unless obstacle: String? = nil, _ show: @escaping @Sendable () throws -> Void) {
            self.setting = setting
            self.obstacle = obstacle
            self.show = show
        }
    }

    @Test func `every setting has a case, and every case a setting`() {
        let settings = Set(Setting.all.map { "\($0.section).\($0.key)" })
        let cases = Self.cases.map(\.setting)
        #expect(Set(cases) == settings, "\(Set(cases).symmetricDifference(settings).sorted())")
        #expect(cases.count == settings.count, "a setting has two cases")
    }

    @Test(arguments: cases.filter { $0.obstacle == nil })
    func `a setting has its effect`(_ one: Case) throws { try one.show() }

    // MARK: Helpers

    private static func makeHost(_ settings: String, onStop: String = "keep") throws -> PrivateHost {
        try PrivateHost(onStop: onStop, settings: settings)
    }

    /// A step of what Stop would do, by the holder itself.
    private static func step(_ name: String, of host: PrivateHost) throws -> String {
        let plan: ManagerInterface.PlanStop.Reply = try host.client().call(
            ManagerInterface.PlanStop.method, ManagerInterface.PlanStop.Parameters(name: "web1"),
            timeout: .seconds(60))
        return try #require(plan.steps.first { $0.name == name }).detail
    }

    /// The exit status of a command of another user with one further group.
    private static func status(
        _ host: PrivateHost, user: Int = 65_533, group: Int? = nil, _ arguments: String...
    ) throws -> Int32 {
        let groups = group.map { "--groups=\($0)" } ?? "--clear-groups"
        return try runProgram(
            "/usr/bin/setpriv", ["--reuid=\(user)", "--regid=65534", groups, Programs.tdxctl] + arguments,
            environment: ["TDXD_SOCKET": host.socket], in: host.directory
        ).status
    }

    /// Stops the process until the body has ended.
    private static func stopped<Result>(_ pid: Int32, _ body: () throws -> Result) rethrows -> Result {
        kill(pid, SIGSTOP)
        defer { kill(pid, SIGCONT) }
        return try body()
    }

    /// The process that starts holders for this host's tdxd.
    private static func launcher(of host: PrivateHost) throws -> Int32 {
        let pids = try TextFile.list("/proc").compactMap { Int32($0) }
        return try #require(
            pids.first { pid in
                guard let line = try? TextFile.read("/proc/\(pid)/cmdline", limit: 64 << 10) else { return false }
                return line.contains("\0launch\0") && line.contains(host.runtime)
            })
    }

    /// How long until tdxd closes a connection on which these bytes were sent.
    private static func timeUntilClosed(_ host: PrivateHost, after bytes: [UInt8]) throws -> Duration {
        let socket = try UnixSocket.connect(to: host.socket)
        if !bytes.isEmpty { _ = try UnixSocket.send(bytes[...], descriptors: [], on: socket) }
        let start = MonotonicInstant.now
        while MonotonicInstant.now < start + .seconds(60) {
            guard try UnixSocket.wait(for: .reading, on: socket, until: start + .seconds(60)) else { break }
            if case .endOfStream = try UnixSocket.receive(upTo: 4096, maximumDescriptors: 0, from: socket) {
                return MonotonicInstant.now - start
            }
        }
        Issue.record("the connection stays open")
        return .seconds(60)
    }

    private static func elapsed(_ body: () throws -> Void) rethrows -> Duration {
        let start = MonotonicInstant.now
        try body()
        return MonotonicInstant.now - start
    }

    private static func capacity(_ host: PrivateHost) throws -> ManagerInterface.GetKeys.Reply {
        try host.client().call(ManagerInterface.GetKeys.method, timeout: .seconds(60))
    }

    /// A tdxd that has its places from the configuration alone.
    private static func placed(_ body: (PrivateHost) throws -> Void) throws {
        let host = try PrivateHost(start: false)
        try host.configure(
            settings: "[service]\nsocket = \(host.socket)\nruntime_directory = \(host.runtime)\n"
                + "state_directory = \(host.state)")
        let log = try openForAppending(host.directory + "/log")
        let tdxd = try ProgramStart(
            path: Programs.tdxd, arguments: ["--config", host.directory + "/tdxd.conf"],
            environment: ["PATH=/usr/bin:/bin"],
            descriptors: [(source: log.rawValue, target: 1), (source: log.rawValue, target: 2)]
        ).start()
        defer {
            try? tdxd.send(.terminate)
            _ = try? tdxd.wait()
        }
        #expect(eventually { (try? host.list()) != nil }, "\(host.log)")
        try body(host)
    }

    private static let notRoot = Programs.isRoot ? nil : "only root can call as another user"
    private static let noVM = Programs.hasBackingVM ? nil : "no backend here has a VM of the kernel's"
    private static let noFirmware = Programs.hasFirmware ? nil : "no \(Programs.firmware)"

    // MARK: Cases

    static let cases: [Case] =
        serviceCases + accessCases + backendCases + memoryCases + teardownCases + limitCases + deadlineCases

    private static let serviceCases: [Case] = [
        Case("service.socket") { try placed { #expect(access($0.socket, F_OK) == 0) } },
        Case("service.runtime_directory") {
            try placed { host in
                let domain = try host.create("web1")
                #expect(host.holderDirectories == [domain.id])
                _ = try host.stop("web1")
            }
        },
        Case("service.state_directory") {
            try placed { host in
                _ = try host.create("web1")
                _ = try host.stop("web1")
                #expect(host.certificateFiles.count == 1)
            }
        },
        Case("service.socket_mode") {
            let host = try makeHost("[service]\nsocket_mode = 0600")
            var status = stat()
            #expect(stat(host.socket, &status) == 0 && status.st_mode & 0o777 == 0o600)
        },
        Case("service.certificates_kept") {
            let host = try makeHost("[service]\ncertificates_kept = 1")
            for name in ["a", "b"] {
                _ = try host.create(name)
                _ = try host.stop(name)
            }
            #expect(host.certificateFiles.map { $0.prefix(2) } == ["b-"])
        },
        Case("service.certificate_days") {
            let host = try makeHost("[service]\ncertificate_days = 1")
            _ = try host.create("a")
            _ = try host.stop("a")
            let old = timespec(tv_sec: time(nil) - 2 * 86_400, tv_nsec: 0)
            #expect(utimensat(AT_FDCWD, "\(host.state)/certificates/\(host.certificateFiles[0])", [old, old], 0) == 0)
            _ = try host.create("b")
            _ = try host.stop("b")
            #expect(host.certificateFiles.map { $0.prefix(2) } == ["b-"])
        },
        Case("service.firmware_directories", unless: noFirmware) {
            let host = try makeHost("[service]\nfirmware_directories = /usr/lib")
            #expect(refusal { _ = try host.create("web1", firmware: Programs.firmware) } != nil)
            #expect(try PrivateHost().create("web1", firmware: Programs.firmware).firmware == Programs.firmware)
        },
        Case("service.on_stop") {
            let host = try makeHost("", onStop: "drain")
            _ = try host.create("web1")
            #expect(host.kill(.terminate) == .exited(status: 0))
            #expect(host.holders.isEmpty)
        },
        Case("service.other_vms") {
            func names(_ otherVMs: String) throws -> [String] {
                let host = try PrivateHost(otherVMs: otherVMs)
                let reply: ManagerInterface.CheckKexec.Reply = try host.client().call(
                    ManagerInterface.CheckKexec.method, timeout: .seconds(60))
                return reply.checks.map(\.name)
            }
            let counted = try names("count")
            let ignored = try names("ignore")
            #expect(counted.contains("other_vms"))
            #expect(!ignored.contains("other_vms"))
        },
        Case("service.log_level") {
            let host = try PrivateHost(start: false)
            // The test's own file has the setting already.
            #expect(mkdir(host.directory + "/tdxd.conf.d", 0o755) == 0)
            let file = try openForAppending(host.directory + "/tdxd.conf.d/log.conf")
            let bytes = Array("[service]\nlog_level = error\n".utf8)
            #expect(write(file.rawValue, bytes, bytes.count) == bytes.count)
            try host.start()
            _ = try host.create("web1")
            #expect(!host.log.contains("creating a TD"))
        },
    ]

    private static let accessCases: [Case] = [
        // The group “games” (60) is in every Debian, and nobody is in it.
        Case("access.admin_group", unless: notRoot) {
            let host = try makeHost("[access]\nadmin_group = games")
            #expect(try status(host, group: 60, "drain", "--undo") == 0)
            #expect(try status(host, "drain", "--undo") == 4)
        },
        Case("access.operate_group", unless: notRoot) {
            let host = try makeHost("[access]\noperate_group = games")
            #expect(try status(host, group: 60, "create", "web1", "--memory", "16M") == 0)
            #expect(try status(host, "create", "web2", "--memory", "16M") == 4)
        },
        Case("access.observe_group", unless: notRoot) {
            let host = try makeHost("[access]\nobserve_group = games\nothers = none")
            #expect(try status(host, group: 60, "list") == 0)
            #expect(try status(host, "list") == 4)
        },
        Case("access.admin_users", unless: notRoot) {
            let host = try makeHost("[access]\nadmin_users = 65533")
            #expect(try status(host, "drain", "--undo") == 0)
            #expect(try status(host, user: 65_532, "drain", "--undo") == 4)
        },
        Case("access.operate_users", unless: notRoot) {
            let host = try makeHost("[access]\noperate_users = 65533")
            #expect(try status(host, "create", "web1", "--memory", "16M") == 0)
            #expect(try status(host, user: 65_532, "create", "web2", "--memory", "16M") == 4)
        },
        Case("access.observe_users", unless: notRoot) {
            let host = try makeHost("[access]\nobserve_users = 65533\nothers = none")
            #expect(try status(host, "list") == 0)
            #expect(try status(host, user: 65_532, "list") == 4)
        },
        Case("access.others", unless: notRoot) {
            let refused = try status(makeHost("[access]\nothers = none"), "list")
            let answered = try status(makeHost("[access]\nothers = read"), "list")
            #expect(refused == 4 && answered == 0)
        },
    ]

    private static let backendCases: [Case] = [
        Case("backend.backend") {
            let keys = try capacity(makeHost(""))
            #expect(keys.backend == .memfd)
        },
        Case("backend.emulated_key_ids") {
            let host = try makeHost("emulated_key_ids = 2")
            #expect(try capacity(host).capacity == 2)
        },
        Case("backend.emulated_terminate") {
            let host = try makeHost("emulated_terminate = absent")
            _ = try host.create("web1")
            #expect(try host.stop("web1").path == .dynamicRemoval)
        },
        Case("backend.emulated_traces") {
            var template = Array("/tmp/tdxd-traces.XXXXXX".utf8CString)
            let directory = String(cString: try #require(mkdtemp(&template)))
            let host = try makeHost("emulated_traces = \(directory)")
            let domain = try host.create("web1")
            #expect(access("\(directory)/\(domain.id).jsonl", F_OK) == 0)
            unlink("\(directory)/\(domain.id).jsonl")
            rmdir(directory)
        },
        Case("backend.emulated_last_will", unless: noVM) {
            let rehearsed = try PrivateHost(backend: "auto", settings: "emulated_last_will = yes").create("web1")
            let plain = try PrivateHost(backend: "auto").create("web1")
            #expect(rehearsed.lastWill == .rehearsal && plain.lastWill == nil)
        },
        Case("backend.emulated_pause_at") {
            let host = try makeHost("emulated_pause_at = release")
            let domain = try host.create("web1")
            let stopping = try host.client()
            try stopping.callMore(
                ManagerInterface.Stop.method, ManagerInterface.Stop.Parameters(name: "web1"),
                as: ManagerInterface.Stop.Reply.self, timeout: .seconds(60)
            ) { _, _ in
                let isStopped = eventually(within: 30) {
                    ((try? TextFile.read("/proc/\(domain.holderPID)/stat")) ?? "").contains(") T ")
                }
                if isStopped { kill(domain.holderPID, SIGCONT) }
            }
            #expect(host.log.contains("stopping itself, as asked for"))
        },
        Case("backend.emulated_stuck_vcpu") {
            let host = try makeHost("emulated_stuck_vcpu = yes")
            _ = try host.create("web1")
            #expect(try host.stop("web1").failure?.contains("did not leave KVM_RUN") == true)
        },
        Case("backend.emulated_pre_fault") {
            let host = try makeHost("emulated_pre_fault = no")
            #expect(try host.tdxctl("create", "web1", "--memory", "16M", "--prefault").status != 0)
            #expect(try PrivateHost().tdxctl("create", "web1", "--memory", "16M", "--prefault").status == 0)
        },
        Case("backend.emulated_failing_removal", unless: noFirmware) {
            let host = try makeHost("emulated_failing_removal = 1")
            _ = try host.create("web1", firmware: Programs.firmware)
            #expect(try host.stop("web1").tdxStatus != nil)
        },
    ]

    private static let memoryCases: [Case] = [
        Case("memory.shard_minimum") {
            // 64 MiB are one piece, or as many as two for each CPU.
            let whole = try makeHost("[memory]\nshard_minimum = 256MiB")
            _ = try whole.create("web1")
            let cut = try makeHost("[memory]\nshard_minimum = 32MiB\nrelease_chunk = 2MiB")
            _ = try cut.create("web1")
            #expect(try step("release", of: whole).contains("1 shard,"))
            #expect(try step("release", of: cut).contains("2 shards,"))
            #expect(whole.backingDescriptors == 2 && cut.backingDescriptors == 4)
            // Larger ones need fewer descriptors, and tdxd promises no more than it then takes.
            let large = try makeHost("[memory]\nshard_minimum = 1T")
            _ = try large.create("web1", mebibytes: 1024)
            #expect(large.backingDescriptors == 2)
        },
        Case("memory.release_chunk") {
            let host = try makeHost("[memory]\nrelease_chunk = 2MiB")
            _ = try host.create("web1")
            try host.makeResident(32 << 20)
            #expect(try step("release", of: host).contains("2 MiB in a punch"))
            let release = try #require(try host.stop("web1").phases.first { $0.name == .release })
            #expect(release.calls >= 16, "\(release)")
        },
        Case("memory.release_threads", unless: sysconf(Int32(_SC_NPROCESSORS_ONLN)) < 2 ? "one CPU" : nil) {
            for (setting, words) in [(1, "1 thread"), (2, "2 threads")] {
                let host = try makeHost(
                    "[memory]\nrelease_threads = \(setting)\nshard_minimum = 32MiB\nrelease_chunk = 2MiB")
                _ = try host.create("web1")
                #expect(try step("release", of: host).contains(words))
                let release = try #require(try host.stop("web1").phases.first { $0.name == .release })
                #expect(release.detail?.contains(words) == true, "\(release)")
            }
        },
        Case("memory.reserve") {
            let host = try makeHost("[memory]\nreserve = 1T")
            guard case .insufficientMemory? = refusal({ _ = try host.create("web1") }) else {
                Issue.record("let in")
                return
            }
        },
        Case("memory.conversion_storm") {
            let rule = try storm("conversion_storm = 3")
            #expect(rule["conversions"].number == 3)
        },
        Case("memory.conversion_storm_window") {
            let rule = try storm("conversion_storm_window = 1h")
            #expect(rule["window_ms"].number == 3_600_000)
        },
    ]

    private static func storm(_ setting: String) throws -> JSONValue {
        let host = try makeHost("[memory]\n\(setting)")
        _ = try host.create("web1")
        return try JSONValue(host.tdxctl("conversions", "web1", "--json=short"))["storm"]
    }

    private static let teardownCases: [Case] = [
        Case("teardown.policy") {
            let host = try makeHost("[teardown]\npolicy = dynamic-removal")
            _ = try host.create("web1")
            #expect(try host.stop("web1").path == .dynamicRemoval)
        },
        Case("teardown.wait") {
            let host = try makeHost("[teardown]\nwait = stopped")
            _ = try host.create("web1")
            #expect(try host.stop("web1").pending != nil)
        },
        Case("teardown.rate") {
            let host = try makeHost("[teardown]\nrate = 64MiB\nwait = stopped")
            _ = try host.create("web1")
            #expect(try host.stop("web1").pending?.contains("at most 64 MiB a second") == true)
        },
        Case("teardown.last_will", unless: noVM) {
            let settings = "emulated_last_will = yes\n[teardown]\nlast_will = no"
            let domain = try PrivateHost(backend: "auto", settings: settings).create("web1")
            #expect(domain.lastWill == nil)
        },
    ]

    private static let limitCases: [Case] = [
        Case("limits.trust_domains") {
            let host = try makeHost("[limits]\ntrust_domains = 1")
            _ = try host.create("a")
            guard case .limitReached(.trustDomains, _, _, _)? = refusal({ _ = try host.create("b") }) else {
                Issue.record("let in")
                return
            }
        },
        Case("limits.trust_domain_memory") {
            let host = try makeHost("[limits]\ntrust_domain_memory = 32M")
            #expect(refusal { _ = try host.create("a", mebibytes: 64) }.isInvalid("memory_bytes"))
        },
        Case("limits.trust_domain_vcpus") {
            let host = try makeHost("[limits]\ntrust_domain_vcpus = 2")
            #expect(refusal { _ = try host.create("a", vcpus: 3) }.isInvalid("vcpus"))
        },
        Case("limits.connections") {
            let host = try makeHost("[limits]\nconnections = 2\nconnections_per_user = 2")
            let held = [try host.client(), try host.client()]
            for client in held { let _: NoParameters = try client.call("org.varlink.service.GetInfo") }
            #expect(throws: VarlinkClientError.self) { _ = try host.list() }
            withExtendedLifetime(held) {}
        },
        Case("limits.connections_per_user") {
            let host = try makeHost("[limits]\nconnections_per_user = 1")
            let held = try host.client()
            let _: NoParameters = try held.call("org.varlink.service.GetInfo")
            #expect(throws: VarlinkClientError.self) { _ = try host.list() }
            withExtendedLifetime(held) {}
        },
        Case("limits.message_size") {
            let host = try makeHost("[limits]\nmessage_size = 4K")
            let long = String(repeating: "a", count: 8192)
            #expect(throws: VarlinkClientError.self) { _ = try host.show(long) }
            #expect(refusal { _ = try PrivateHost().show(long) } != nil)
        },
    ]

    private static let deadlineCases: [Case] = [
        Case("deadlines.holder_start") {
            let host = try makeHost("[deadlines]\nholder_start = 100ms")
            let refused = try stopped(launcher(of: host)) { refusal { _ = try host.create("web1") } }
            #expect(refused.map { "\($0)" }?.contains("100ms") == true, "\(String(describing: refused))")
        },
        Case("deadlines.holder_reply") {
            let host = try makeHost("[deadlines]\nholder_reply = 200ms")
            let domain = try host.create("web1")
            let start = MonotonicInstant.now
            let finished = try stopped(domain.holderPID) { try host.tdxctl("map", "web1") }
            let time = MonotonicInstant.now - start
            #expect(finished.status != 0 && time < .seconds(8), "\(time)")
        },
        Case("deadlines.build") {
            // The holder stands still once it has begun to allocate.
            let host = try makeHost("[deadlines]\nbuild = 5s")
            var holder: Int32?
            let error = #expect(throws: VarlinkClientError.self) {
                try host.client().callMore(
                    ManagerInterface.Create.method,
                    ManagerInterface.Create.Parameters(name: "a", memoryBytes: 1 << 30, vcpus: 1, preallocate: true),
                    as: ManagerInterface.Create.Reply.self, timeout: .seconds(60)
                ) { reply, _ in
                    guard reply.progress?.phase == "allocate", holder == nil else { return }
                    holder = host.holders.first
                    if let holder { kill(holder, SIGSTOP) }
                }
            }
            #expect(holder != nil && error != nil)
        },
        Case("deadlines.stop") {
            let host = try makeHost("emulated_pause_at = release\n[deadlines]\nstop = 1s")
            _ = try host.create("web1")
            #expect(try host.stop("web1").holderDied)
        },
        Case("deadlines.prove") {
            let host = try makeHost("[deadlines]\nprove = 1500ms")
            _ = try host.create("web1")
            // Another process that has the memory, so that its return cannot be proven.
            let held = try ProgramStart(
                path: "/bin/sh",
                arguments: [
                    "-c",
                    "for f in /proc/\(host.pid)/fd/*; do case $(readlink $f) in *memfd*) exec sleep 600 <$f;; "
                        + "esac; done",
                ], environment: ["PATH=/usr/bin:/bin"]
            ).start()
            defer {
                try? held.send(.kill)
                _ = try? held.wait()
            }
            #expect(
                eventually {
                    ((try? TextFile.linkTarget("/proc/\(held.pid)/fd/0")) ?? "").contains("memfd")
                })
            let start = MonotonicInstant.now
            let isComplete = try host.stop("web1").complete
            let time = MonotonicInstant.now - start
            #expect(!isComplete && time >= .milliseconds(1500), "\(time)")
        },
        Case("deadlines.check") {
            let host = try makeHost("[deadlines]\ncheck = 1s")
            // A Check within two seconds shares the report of tdxd's start.
            #expect(eventually { host.log.contains("probed the host") })
            usleep(2_500_000)
            let time = try stopped(launcher(of: host)) {
                elapsed {
                    #expect(
                        refusal {
                            let _: HostReport = try host.client().call(
                                ManagerInterface.Check.method, timeout: .seconds(60))
                        } != nil)
                }
            }
            #expect(time >= .seconds(1) && time < .seconds(20), "\(time)")
        },
        Case("deadlines.first_message") {
            let host = try makeHost("[deadlines]\nfirst_message = 200ms")
            #expect(try timeUntilClosed(host, after: []) < .seconds(10))
        },
        Case("deadlines.idle") {
            let host = try makeHost("[deadlines]\nidle = 1s")
            let call = Array("{\"method\":\"org.varlink.service.GetInfo\"}\0".utf8)
            let time = try timeUntilClosed(host, after: call)
            #expect(time >= .seconds(1) && time < .seconds(20), "\(time)")
        },
        Case("deadlines.client") {
            let host = try makeHost("[deadlines]\nclient = 200ms")
            #expect(try timeUntilClosed(host, after: Array("{\"method\"".utf8)) < .seconds(10))
        },
        Case("deadlines.drain") {
            let host = try makeHost("emulated_pause_at = release\n[deadlines]\ndrain = 1s", onStop: "drain")
            _ = try host.create("web1")
            let time = elapsed { _ = host.kill(.terminate) }
            #expect(time < .seconds(60), "\(time)")
        },
    ]
}
