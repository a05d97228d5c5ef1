import ControlInterface
import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing
import Varlink

@testable import TDHolder

@Suite struct `A holder as a process` {
    @Test(arguments: testedBackends)
    func `A TD lives from Build to the proofs of its end and leaves nothing`(_ backend: Backend) throws {
        let holder = try RunningHolder(["--backend", backend.rawValue])
        let client = try holder.connect()
        #expect(try client.describe().state == .empty)

        var phases: [String] = []
        let built = try client.build(RunningHolder.order()) { phases.append($0.phase) }
        #expect(built.state == .runnable && built.backend == backend && built.emulated)
        #expect(built.memoryBytes == 64 << 20 && built.privateBytes == 64 << 20 && built.sharedBytes == 0)
        #expect(built.residentPrivateBytes == 0, "nothing is loaded, so nothing is resident")
        #expect(built.keyID == 40 && built.vcpus == 2 && built.pid == holder.process.pid)
        #expect(built.mrtd?.count == 96)
        #expect(phases.contains("finalize"))
        #expect(try client.runs() == [MemoryRun(gpa: 0, bytes: 64 << 20, attribute: .private)])

        let reply = try client.stop()
        #expect(reply.failure == nil && reply.path == .terminateFirst)
        #expect(reply.phases?.map(\.name) == [.quiesce, .terminate, .release, .close])
        let proofs = try #require(reply.proofs)
        #expect(
            proofs.map(\.name) == [
                "holder_residency", "emulated_vm_destroyed", "emulated_key_free", "emulated_no_page_owned",
            ])
        for proof in proofs where proof.name != "holder_residency" || canCountPages {
            #expect(proof.holds, "\(proof.name): \(proof.evidence)")
        }
        #expect(try holder.waitForExit() == .exited(status: 0))
        #expect(holder.filesLeft == ["end.json"], "what it answered, for who did not hear it")
    }

    @Test(arguments: testedBackends)
    func `Memory is converted there and back, and the map says so`(_ backend: Backend) throws {
        let holder = try RunningHolder(["--backend", backend.rawValue])
        let client = try holder.connect()
        try client.build(RunningHolder.order())

        let shared = try client.convert(0x100_0000, 4 << 20, to: .shared)
        #expect(shared.changedBytes == 4 << 20)
        #expect(
            try client.runs() == [
                MemoryRun(gpa: 0, bytes: 0x100_0000, attribute: .private),
                MemoryRun(gpa: 0x100_0000, bytes: 4 << 20, attribute: .shared),
                MemoryRun(gpa: 0x140_0000, bytes: 0x2C0_0000, attribute: .private),
            ])
        let now = try client.describe()
        #expect(now.sharedBytes == 4 << 20 && now.privateBytes == 60 << 20 && now.convertingBytes == 0)
        #expect(try client.convert(0x100_0000, 4 << 20, to: .shared).changedBytes == 0, "a second time changes nothing")
        #expect(try client.convert(0x100_0000, 4 << 20, to: .private).changedBytes == 4 << 20)
        #expect(try client.runs().count == 1)
        #expect(try client.stop().failure == nil)
    }

    @Test func `A bad conversion names the field and changes nothing`() throws {
        let holder = try RunningHolder(["--backend", "memfd"])
        let client = try holder.connect()
        try client.build(RunningHolder.order())
        for (gpa, bytes, field) in [
            (1, 4096, "gpa"), (0, 4095, "size"), (0, 0, "size"), (0x400_0000, 4096, "gpa"), (0, 65 << 20, "gpa"),
            (UInt64(Int64.max) / 4096 * 4096, UInt64(Int64.max) / 4096 * 4096, "gpa"),
        ] as [(UInt64, UInt64, String)] {
            let error = controlError { try client.convert(gpa, bytes, to: .shared) }
            guard case .invalidField(let named, _, _) = error else {
                Issue.record("\(gpa) + \(bytes): \(String(describing: error))")
                continue
            }
            #expect(named == field || named == "bytes", "\(gpa) + \(bytes)")
        }
        #expect(try client.runs().count == 1)
    }

    @Test(arguments: testedBackends)
    func `The backing files can be had, and outlive a holder that is killed`(_ backend: Backend) throws {
        let holder = try RunningHolder(["--backend", backend.rawValue])
        let client = try holder.connect()
        try client.build(RunningHolder.order())
        try client.convert(0, 2 << 20, to: .shared)
        let answer = try client.callWithDescriptors(
            HolderInterface.GetBacking.method, as: HolderInterface.GetBacking.Reply.self,
            timeout: RunningHolder.patience)
        let files = answer.reply.files
        #expect(answer.descriptors.count == files.count)
        #expect(files.filter { $0.kind == .private }.reduce(0) { $0 + $1.bytes } == 64 << 20)
        #expect(files.filter { $0.kind == .shared }.reduce(0) { $0 + $1.bytes } == 64 << 20)

        try holder.process.send(.kill)
        #expect(try holder.process.waitUntilEnded(milliseconds: 120_000))
        for file in files {
            guard let descriptor = answer.descriptors.takeFirst() else {
                Issue.record("fewer descriptors than files")
                return
            }
            #expect(try descriptor.status().identity.inode == file.inode)
            // What a reaper does with a dead holder's memory.
            let page = ByteCount(4096)
            try FileMemory.allocate(descriptor: descriptor.rawValue, offset: .zero, length: page)
            if canCountPages { #expect(try FileMemory.residentBytes(descriptor: descriptor.rawValue) >= page) }
            try FileMemory.punchHole(descriptor: descriptor.rawValue, offset: .zero, length: ByteCount(file.bytes))
            if canCountPages { #expect(try FileMemory.residentBytes(descriptor: descriptor.rawValue) == .zero) }
        }
        #expect(
            Set(holder.filesLeft) == ["socket", "end.json"],
            "a killed holder leaves its socket file and an empty record")
    }

    @Test func `A second Build is refused and the TD stays as it was`() throws {
        let holder = try RunningHolder(["--backend", "memfd"])
        let client = try holder.connect()
        try client.build(RunningHolder.order())
        let error = controlError { try client.build(RunningHolder.order(name: "db7")) }
        #expect(error == .wrongState(name: "db7", state: "runnable", operation: "Build"))
        #expect(try client.describe().name == "web1")
    }

    @Test func `Calls before Build are refused by state`() throws {
        let holder = try RunningHolder(["--backend", "memfd"])
        let client = try holder.connect()
        #expect(controlError { try client.runs() } == .wrongState(name: "", state: "empty", operation: "Map"))
        #expect(
            controlError { try client.convert(0, 4096, to: .shared) }
                == .wrongState(name: "", state: "empty", operation: "Convert"))
    }

    @Test func `A bad order is refused by field and the holder is still empty`() throws {
        let holder = try RunningHolder(["--backend", "memfd"])
        let client = try holder.connect()
        let error = controlError { try client.build(RunningHolder.order(memory: 4095)) }
        guard case .invalidField(field: "request.memory_bytes", value: "4095", limit: _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(try client.describe().state == .empty)
        #expect(try client.build(RunningHolder.order()).state == .runnable)
    }

    @Test func `More vCPUs than the host has fail the build and leave nothing behind`() throws {
        let holder = try RunningHolder(["--backend", "memfd"])
        let client = try holder.connect()
        let error = controlError { try client.build(RunningHolder.order(vcpus: 1024)) }
        guard case .invalidField(field: "vcpus", value: "1024", limit: _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        let now = try client.describe()
        #expect(now.state == .failed && now.reason != nil)
        #expect(try client.stop().phases?.isEmpty == true)
        #expect(try holder.waitForExit() == .exited(status: 0))
    }

    @Test func `An emulated kernel without TERMINATE_VM takes the slow path to the same proofs`() throws {
        let holder = try RunningHolder(["--backend", "memfd", "--emulated-terminate", "absent"])
        let client = try holder.connect()
        try client.build(RunningHolder.order())
        let reply = try client.stop()
        #expect(reply.path == .dynamicRemoval && reply.failure == nil)
        for proof in reply.proofs ?? [] where proof.name != "holder_residency" || canCountPages {
            #expect(proof.holds, "\(proof.name): \(proof.evidence)")
        }
    }
}
