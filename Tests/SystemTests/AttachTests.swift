import ControlInterface
import Glibc
import LinuxSystem
import SystemPackage
import Testing
import Varlink

/// TDs whose process is not tdxd's: one that owns a VM itself, such as a VMM, and attaches it.
@Suite(.serialized) struct AttachTests {
    /// A process of another program that attaches a TD.
    final class Attached {
        let process: ProcessHandle
        private let log: String

        init(
            to host: PrivateHost, _ name: String = "vmm1", mebibytes: Int = 64, user: Int? = nil, _ options: String...
        ) throws {
            let script =
                #filePath.split(separator: "/").dropLast(2).reduce(into: "") { $0 += "/" + $1 }
                + "/CrossChecks/attached_process.py"
            log = "\(host.directory)/attached.\(name).\(MonotonicInstant.now.nanoseconds)"
            let output = try openForAppending(log)
            var command = ["/usr/bin/python3", script, host.socket, name, "\(mebibytes)"] + options
            if let user {
                command = ["/usr/bin/setpriv", "--reuid=\(user)", "--regid=65534", "--clear-groups"] + command
            }
            process = try ProgramStart(
                path: command[0], arguments: Array(command.dropFirst()), environment: ["PATH=/usr/bin:/bin"],
                descriptors: [(source: output.rawValue, target: 1), (source: output.rawValue, target: 2)]
            ).start()
        }

        deinit {
            try? process.send(.kill)
            _ = try? process.wait()
        }

        var text: String { (try? TextFile.read(log)) ?? "" }
        var pid: Int32 { process.pid }

        /// Waits until it has said so.
        func says(_ words: String) -> Bool { eventually(within: 60) { text.contains(words) } }
    }

    private static func inventory(_ host: PrivateHost) throws -> JSONValue {
        try JSONValue(host.tdxctl("inventory", "--json=short"))
    }

    @Test func `an attached TD is listed with its kind and process, and counted wherever TDs are`() throws {
        let host = try PrivateHost()
        let vmm = try Attached(to: host)
        #expect(vmm.says("runnable"), "\(vmm.text)\n\(host.log)")
        let domain = try host.show("vmm1")
        #expect(domain.state == .runnable && domain.kind == .attached && domain.holderPID == vmm.pid, "\(domain)")
        #expect(domain.privateBytes == 63 << 20)
        #expect(try host.create("own1").kind == .held)
        #expect(try host.list().map(\.kind) == [.held, .attached])
        let status: ManagerInterface.GetDrain.Reply = try host.client().call(ManagerInterface.GetDrain.method)
        #expect(status.status.running == 2 && status.status.keysTaken == 2)
        #expect(status.status.privateBytes == 64 << 20 + 63 << 20, "\(status)")
        #expect(try host.tdxctl("kexec", "check").status == 1)
        let keys: ManagerInterface.GetKeys.Reply = try host.client().call(ManagerInterface.GetKeys.method)
        #expect(keys.keys.map(\.name).sorted { ($0 ?? "") < ($1 ?? "") } == ["own1", "vmm1"])
        // It owns its map.
        let refused = refusal { _ = try host.convert("vmm1", gpa: 0, bytes: 4096, to: .shared) }
        guard case .notPermitted(let needed, _)? = refused else {
            Issue.record("\(String(describing: refused))")
            return
        }
        #expect(needed.contains("process \(vmm.pid) itself"))
        #expect(refusal { _ = try host.create("vmm1") } == .nameTaken(name: "vmm1"))
    }

    @Test func `Stop asks the process, and the certificate is proven`() throws {
        let host = try PrivateHost()
        let vmm = try Attached(to: host)
        #expect(vmm.says("runnable"), "\(vmm.text)\n\(host.log)")
        #expect(host.backingDescriptors == 2)
        let certificate = try host.stop("vmm1")
        #expect(certificate.complete && !certificate.holderDied, "\(certificate)\n\(host.log)")
        #expect(vmm.says("gone") && host.leavesNothing())
        #expect(try vmm.process.wait() == .exited(status: 0))
    }

    @Test func `a process that refuses to stop keeps its TD, and is never killed`() throws {
        let host = try PrivateHost()
        let vmm = try Attached(to: host, "vmm1", "stop=refuse")
        #expect(vmm.says("runnable"), "\(vmm.text)\n\(host.log)")
        #expect(
            refusal { _ = try host.stop("vmm1") } == .wrongState(name: "vmm1", state: "migrating", operation: "stop"))
        #expect(try host.show("vmm1").state == .runnable)
        #expect(try !vmm.process.hasEnded())
        #expect(host.certificateFiles.isEmpty)
    }

    @Test func `its death gives a certificate through tdxd's duplicates`() throws {
        let host = try PrivateHost()
        let vmm = try Attached(to: host)
        #expect(vmm.says("runnable"), "\(vmm.text)\n\(host.log)")
        try vmm.process.send(.kill)
        #expect(eventually { host.certificateFiles.count == 1 && host.leavesNothing() }, "\(host.log)")
        let certificate = try host.stop("vmm1")
        #expect(certificate.holderDied && certificate.complete, "\(certificate)")
        #expect(certificate.releasedBytes == 8 << 20)
    }

    @Test func `a restart of tdxd finds it again when it comes back`() throws {
        let host = try PrivateHost()
        let vmm = try Attached(to: host)
        #expect(vmm.says("runnable"), "\(vmm.text)\n\(host.log)")
        let id = try host.show("vmm1").id
        host.kill(.kill)
        try host.start()
        #expect(vmm.says("back"), "\(vmm.text)\n\(host.log)")
        #expect(eventually(within: 30) { host.backingDescriptors == 2 }, "\(host.log)")
        let domain = try host.show("vmm1")
        #expect(domain.id == id && domain.kind == .attached && domain.privateBytes == 63 << 20, "\(domain)")
        try vmm.process.send(.kill)
        #expect(eventually { host.certificateFiles.count == 1 && host.leavesNothing() }, "\(host.log)")
        #expect(try host.stop("vmm1").complete)
    }

    @Test func `its death while no tdxd runs is certified by the next one`() throws {
        let host = try PrivateHost()
        let vmm = try Attached(to: host)
        #expect(vmm.says("runnable"), "\(vmm.text)\n\(host.log)")
        host.kill(.kill)
        try vmm.process.send(.kill)
        _ = try vmm.process.wait()
        try host.start()
        #expect(eventually { host.certificateFiles.count == 1 && host.leavesNothing() }, "\(host.log)")
        #expect(try host.stop("vmm1").holderDied)
    }

    @Test func `one that ends before its TD was made leaves nothing`() throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 1")
        let vmm = try Attached(to: host, "vmm1", "build=never")
        #expect(vmm.says("building"), "\(vmm.text)\n\(host.log)")
        #expect(try host.show("vmm1").state == .building)
        try vmm.process.send(.kill)
        #expect(try eventually { try host.list().isEmpty && host.leavesNothing() }, "\(host.log)")
        _ = try host.create("own1")
    }

    @Test func `it is admitted as by Create, with the same refusals`() throws {
        let host = try PrivateHost(settings: "emulated_key_ids = 1\n[limits]\ntrust_domain_memory = 128M")
        #expect(try Attached(to: host, "a", mebibytes: 256).says("refused InvalidField"))
        #expect(try Attached(to: host, "Not a name").says("refused InvalidField"))
        _ = try host.create("own1")
        #expect(try Attached(to: host, "own1").says("refused NameTaken"))
        #expect(try Attached(to: host, "b").says("refused NoKeyAvailable"))
        #expect(try host.list().count == 1)
    }

    @Test(.enabled(if: Programs.isRoot, "only root can call as another user"))
    func `who may attach is configured, and becomes the owner`() throws {
        let host = try PrivateHost(settings: "[access]\noperate_users = 65533")
        #expect(try Attached(to: host, "a", user: 65_532).says("refused NotPermitted"))
        let vmm = try Attached(to: host, "b", user: 65_533)
        #expect(vmm.says("runnable"), "\(vmm.text)\n\(host.log)")
        #expect(try host.show("b").ownerUID == 65_533)
    }

    @Test(arguments: [
        #"{"private_bytes":18446744073709551615}"#, #"{"shared_bytes":9223372036854775808}"#,
        #"{"resident_private_bytes":18446744073709551615,"resident_shared_bytes":1}"#, #"{"pid":1}"#,
        #"{"memory_bytes":1125899906842624}"#, #"{"vcpus":-1}"#,
        #"{"ending":{"phase":"x","done_bytes":18446744073709551615,"total_bytes":1}}"#,
    ])
    func `figures that the TD cannot have are refused by name, and tdxd goes on`(figures: String) throws {
        let host = try PrivateHost()
        let vmm = try Attached(to: host, "vmm1", "figures=\(figures)")
        #expect(vmm.says("refused HolderFailed"), "\(vmm.text)\n\(host.log)")
        #expect(try eventually(within: 30) { try host.list().isEmpty }, "\(host.log)")
        #expect(host.backingDescriptors == 0)
    }

    @Test func `only memory files are taken, and none of another TD`() throws {
        let host = try PrivateHost()
        let file = host.directory + "/plain"
        _ = try openForAppending(file)
        #expect(truncate(file, 64 << 20) == 0)
        let plain = try Attached(to: host, "a", "file=\(file)")
        #expect(plain.says("refused HolderFailed"), "\(plain.text)\n\(host.log)")
        let domain = try host.create("own1")
        let number = try #require(
            try TextFile.list("/proc/\(domain.holderPID)/fd").first {
                ((try? TextFile.linkTarget("/proc/\(domain.holderPID)/fd/\($0)")) ?? "").contains("memfd:tdxd-own1")
            })
        let other = try Attached(to: host, "b", "file=/proc/\(domain.holderPID)/fd/\(number)")
        // Python writes the quotation marks as escapes.
        #expect(other.says("it gives a file of "), "\(other.text)\n\(host.log)")
        #expect(other.text.contains("own1"))
        #expect(try host.stop("own1").complete)
    }
}
