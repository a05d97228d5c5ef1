import FirmwareImage
import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import TDXEmulator
import TDXStatusCodes
import Testing

@testable import ConfidentialMemory

/// What guest and test tell each other.
private final class Stage: Sendable {
    struct State {
        var steps: [String] = []
        var hostIsDone = false
    }
    let state = Mutex(State())

    func note(_ step: String) { state.withLock { $0.steps.append(step) } }
    var steps: [String] { state.withLock { $0.steps } }
    var hostIsDone: Bool { state.withLock { $0.hostIsDone } }
}

/// Emulated guests on vCPU threads: their requests become conversions, and stopping drives them out.
@Suite struct EmulatedGuestTests {
    private static let block = range(0x40_0000, mebibytes: 2)

    private static func makeDomain(vcpus: Int, _ guest: any GuestAgent) throws -> TrustDomain {
        try Signals.makeInterrupting(.kick)
        let emulator = try EmulatedKVMSystem(EmulatorConfiguration(host: .memfd, guest: guest))
        return try TrustDomain(
            TrustDomainConfiguration(
                name: "guest", layout: try GuestMemoryLayout(memory: .mebibytes(32)), vcpus: vcpus),
            system: emulator)
    }

    /// Starts a thread for each vCPU; `ends` says how each loop ended.
    private static func start(_ domain: TrustDomain) throws -> (threads: [SystemThread], ends: Ends) {
        let ends = Ends()
        let threads = try domain.vcpus.map { vcpu in
            try SystemThread(name: "vcpu-\(vcpu.id)") {
                let end = VCPULoop.run(vcpu, of: domain) { _ in false }
                ends.list.withLock { $0[vcpu.id] = end }
            }
        }
        return (threads, ends)
    }

    private final class Ends: Sendable {
        let list = Mutex<[UInt32: VCPULoop.End]>([:])
    }

    @Test func `a guest makes memory shared, the host sees what it writes, and nothing of it comes back`() throws {
        let stage = Stage()
        let block = Self.block
        let domain = try Self.makeDomain(
            vcpus: 1,
            GuestProgram { processor throws(GuestFault) in
                stage.note("private: \(try processor.mapGPA(block, toShared: true).status)")
                try processor.writeShared(block.start, [0xAB, 0xCD])
                stage.note("written")
                while !stage.hostIsDone { try processor.pause() }
                stage.note("shared: \(try processor.mapGPA(block, toShared: false).status)")
                stage.note("accept: \(try processor.accept(block.start).rawValue)")
                stage.note("read: \(try processor.read(block.start, count: 2))")
                // What is no memory of this guest's.
                let hole = GuestPhysicalRange(start: GuestPhysicalAddress(1 << 40), size: ByteCount(4096))
                stage.note("hole: \(try processor.mapGPA(hole, toShared: true).status >> 63)")
                while true { try processor.pause() }
            })
        let (threads, ends) = try Self.start(domain)
        wait { stage.steps.contains("written") }
        let view = try #require(domain.memory.hostView(of: block))
        #expect(Array(view.prefix(3)) == [0xAB, 0xCD, 0])
        #expect(domain.runs()[1] == PageRun(block.frames, .shared))
        stage.state.withLock { $0.hostIsDone = true }
        wait { stage.steps.last?.hasPrefix("hole") ?? false }
        #expect(
            stage.steps == ["private: 0", "written", "shared: 0", "accept: 0", "read: [0, 0]", "hole: 1"])
        #expect(try domain.memory.residency(of: block).shared == .zero)
        #expect(domain.memory.observer.records().map(\.origin) == [.guest, .guest])
        #expect(try domain.stop().failures.isEmpty)
        for thread in threads { thread.join() }
        #expect(ends.list.withLock { $0 } == [0: .stopped])
    }

    @Test func `vCPUs that convert and spin without end are driven out by a stop`() throws {
        let rounds = Atomic(0)
        let domain = try Self.makeDomain(
            vcpus: 3,
            GuestProgram { processor throws(GuestFault) in
                let own = range(0x40_0000 + UInt64(processor.id) * 0x20_0000, mebibytes: 2)
                var toShared = true
                while true {
                    if processor.id > 0 {
                        _ = try processor.mapGPA(own, toShared: toShared)
                        toShared.toggle()
                    }
                    rounds.wrappingAdd(1, ordering: .relaxed)
                    try processor.pause()
                }
            })
        let (threads, ends) = try Self.start(domain)
        wait { rounds.load(ordering: .relaxed) >= 200 }
        let report = try domain.stop(policy: TeardownPolicy(quiesceMilliseconds: 120_000))
        for thread in threads { thread.join() }
        #expect(report.failures.isEmpty)
        #expect(report.path == .terminateFirst)
        #expect(report.remaining == .zero)
        #expect(ends.list.withLock { $0 } == [0: .stopped, 1: .stopped, 2: .stopped])
    }
}
