import ControlInterface
import Glibc
import LinuxSystem
import Testing

/// How tdxd starts, stops and keeps out of the way of another one.
@Suite(.serialized) struct ServiceTests {
    @Test func `SIGTERM ends tdxd with status 0, and TDs that are kept go on`() throws {
        let host = try PrivateHost(onStop: "keep")
        let domain = try host.create("web1")
        #expect(host.kill(.terminate) == .exited(status: 0))
        #expect(host.holders == [domain.holderPID])
        #expect(access(host.socket, F_OK) != 0)
        try host.start()
        #expect(try host.show("web1").id == domain.id)
    }

    @Test func `SIGTERM ends every TD first where so configured`() throws {
        let host = try PrivateHost(onStop: "drain")
        for name in ["a", "b", "c"] { _ = try host.create(name) }
        #expect(host.kill(.terminate) == .exited(status: 0))
        #expect(host.holders.isEmpty)
        #expect(host.holderDirectories.isEmpty)
        #expect(host.certificateFiles.count == 3)
    }

    @Test func `SIGHUP reads the configuration again, and a bad one changes nothing`() throws {
        let host = try PrivateHost(settings: "[limits]\ntrust_domain_memory = 1G")
        #expect(refusal { _ = try host.create("a", mebibytes: 2048) }.isInvalid("memory_bytes"))
        try host.configure(settings: "[limits]\ntrust_domain_memory = 32M")
        host.signal(.hangUp)
        #expect(eventually { host.log.contains("read the configuration again") })
        #expect(refusal { _ = try host.create("a", mebibytes: 64) }.isInvalid("memory_bytes"))
        try host.configure(settings: "nonsense = 1")
        host.signal(.hangUp)
        #expect(eventually { host.log.contains("the configuration is not changed") })
        #expect(refusal { _ = try host.create("a", mebibytes: 64) }.isInvalid("memory_bytes"))
    }

    @Test func `a second tdxd on the same runtime directory refuses, and the first goes on`() throws {
        let host = try PrivateHost()
        let other = try runProgram(
            Programs.tdxd,
            [
                "--config", host.directory + "/tdxd.conf", "--socket", host.directory + "/other", "--runtime-directory",
                host.runtime, "--state-directory", host.state,
            ], in: host.directory)
        #expect(other.status == 1)
        #expect(other.errors.contains("already uses this runtime directory"))
        #expect(try host.list().isEmpty)
    }

    @Test func `a socket that is served is not taken over`() throws {
        let host = try PrivateHost()
        let other = try runProgram(
            Programs.tdxd,
            [
                "--config", host.directory + "/tdxd.conf", "--socket", host.socket, "--runtime-directory",
                host.directory + "/run2", "--state-directory", host.state,
            ], in: host.directory)
        #expect(other.status == 1)
        #expect(other.errors.contains("already serves"))
        #expect(try host.list().isEmpty)
    }

    @Test func `a socket that a killed tdxd left is replaced`() throws {
        let host = try PrivateHost()
        host.kill(.kill)
        #expect(access(host.socket, F_OK) == 0)
        try host.start()
        #expect(try host.list().isEmpty)
    }

    @Test func `a bad configuration or place is told with the reason`() throws {
        let host = try PrivateHost(settings: "nonsense = 1", start: false)
        let bad = try runProgram(Programs.tdxd, host.arguments, in: host.directory)
        #expect(bad.status == 78)
        #expect(bad.errors.contains("nonsense"))
        try host.configure()
        let long = host.directory + "/" + String(repeating: "x", count: 60)
        let place = try runProgram(
            Programs.tdxd, host.arguments + ["--runtime-directory", long], in: host.directory)
        #expect(place.status != 0)
        #expect(place.errors.contains("runtime directory"))
    }

    @Test(.enabled(if: Programs.isRoot, "only root can call as another user"))
    func `another user may look but not change, or nothing, as configured`() throws {
        let host = try PrivateHost()
        _ = try host.create("web1")
        func asNobody(_ arguments: String...) throws -> Finished {
            try runProgram(
                "/usr/bin/setpriv",
                ["--reuid=65534", "--regid=65534", "--clear-groups", Programs.tdxctl] + arguments,
                environment: ["TDXD_SOCKET": host.socket], in: host.directory)
        }
        #expect(try asNobody("list").status == 0)
        #expect(try asNobody("stop", "web1").status == 4)
        #expect(try asNobody("create", "web2", "--memory", "64M").status == 4)
        #expect(try asNobody("convert", "web1", "--gpa", "0", "--size", "4K", "--to", "shared").status == 4)
        try host.configure(settings: "[access]\nothers = none")
        host.signal(.hangUp)
        #expect(eventually { host.log.contains("read the configuration again") })
        #expect(try asNobody("list").status == 4)
        #expect(try host.list().count == 1)
        // The first refusal is logged, the others within the interval are not.
        #expect(host.log.components(of: "refused a call") == 1)
    }

    @Test(.enabled(if: Programs.isRoot, "only root can call as another user"))
    func `users have the role that the configuration names them for, and lose it with a reload`() throws {
        let host = try PrivateHost(
            settings: """
                [access]
                admin_users = 65531
                operate_users = nobody
                observe_users = 65530 no-such-user
                others = none
                """)
        func status(_ user: Int, _ arguments: String...) throws -> Int32 {
            try runProgram(
                "/usr/bin/setpriv",
                ["--reuid=\(user)", "--regid=65534", "--clear-groups", Programs.tdxctl] + arguments,
                environment: ["TDXD_SOCKET": host.socket], in: host.directory
            ).status
        }
        #expect(host.log.contains("user no-such-user"))
        #expect(try status(65_534, "create", "web1", "--memory", "64M") == 0)
        #expect(try host.show("web1").ownerUID == 65_534)
        #expect(try status(65_530, "list") == 0)
        #expect(try status(65_530, "stop", "web1") == 4)
        #expect(try status(65_529, "list") == 4)
        // The client's program is in the log of what was refused.
        #expect(host.log.contains("program=\"tdxctl\"") || host.log.contains("program=tdxctl"), "\(host.log)")
        #expect(try status(65_531, "drain", "--for", "maintenance") != 4)
        #expect(try status(65_531, "drain", "--undo") == 0)
        // A user in two roles is refused by name, and nothing is changed.
        try host.configure(settings: "[access]\nadmin_users = 65531\noperate_users = 65531")
        host.signal(.hangUp)
        #expect(eventually { host.log.contains("user 65531 is both in admin_users and in operate_users") })
        #expect(try status(65_529, "list") == 4)
        try host.configure(settings: "[access]\nothers = none")
        host.signal(.hangUp)
        #expect(eventually { host.log.contains("read the configuration again") })
        #expect(try status(65_531, "list") == 4 && status(65_530, "list") == 4)
    }

    @Test(.enabled(if: Programs.isRoot, "only root can call as another user"))
    func `an operator makes TDs and touches its own, and nobody else's`() throws {
        // A group that every Debian has, and nobody is in.
        let host = try PrivateHost(settings: "[access]\noperate_group = games")
        _ = try host.create("root1")
        func asOperator(_ user: Int, _ arguments: String...) throws -> Finished {
            try runProgram(
                "/usr/bin/setpriv",
                ["--reuid=\(user)", "--regid=65534", "--groups=60", Programs.tdxctl] + arguments,
                environment: ["TDXD_SOCKET": host.socket], in: host.directory)
        }
        #expect(try asOperator(65_533, "create", "own1", "--memory", "64M").status == 0)
        #expect(try host.show("own1").ownerUID == 65_533)
        #expect(try asOperator(65_533, "convert", "own1", "--gpa", "0", "--size", "4K", "--to", "shared").status == 0)
        #expect(try asOperator(65_533, "verify", "own1").status == 0)
        for refused in [
            ["stop", "root1"], ["convert", "root1", "--gpa", "0", "--size", "4K", "--to", "shared"],
            ["verify", "root1"], ["reclaim", "root1"], ["drain", "--for", "kexec"], ["drain", "--undo"], ["selftest"],
        ] {
            let result = try runProgram(
                "/usr/bin/setpriv",
                ["--reuid=65533", "--regid=65534", "--groups=60", Programs.tdxctl] + refused,
                environment: ["TDXD_SOCKET": host.socket], in: host.directory)
            #expect(result.status == 4, "\(refused): \(result)")
        }
        // Nor does another operator.
        #expect(try asOperator(65_532, "stop", "own1").status == 4)
        #expect(try host.list().map(\.state) == [.runnable, .runnable])
        #expect(try asOperator(65_533, "stop", "own1", "--policy", "deferred").status == 0)
        #expect(try asOperator(65_532, "reclaim", "own1").status == 4)
        #expect(try asOperator(65_533, "reclaim", "own1").status == 0)
        // An admin may do all of it.
        #expect(try asOperator(65_533, "create", "own2", "--memory", "64M").status == 0)
        #expect(try host.stop("own2").complete)
        #expect(try host.stop("root1").complete)
    }
}

extension Optional where Wrapped == ControlError {
    /// Whether a field was refused.
    func isInvalid(_ field: String) -> Bool {
        guard case .invalidField(let found, _, _) = self else { return false }
        return found == field
    }
}

extension String {
    /// How often a text occurs.
    func components(of text: String) -> Int { split(separator: text, omittingEmptySubsequences: false).count - 1 }
}
