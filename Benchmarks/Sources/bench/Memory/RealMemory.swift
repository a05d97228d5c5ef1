import CPeers
import ConfidentialMemory
import KVM
import MemoryUnits

/// What a row needs and this host lacks, or a call that failed.
struct Unavailable: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// A guest's memory of real guest_memfd pages on a VM of type 0 that nothing runs in.
struct RealMemory {
    let machine: any KVMVirtualMachine
    let memory: GuestMemory
    let cpus: Int

    /// - Parameter shards: files; nil for as many as the product takes by itself.
    init(_ size: ByteCount, shards: Int? = nil) throws {
        machine = try KernelKVMSystem().createVirtualMachine(.default)
        cpus = Machine().processors
        let policy = shards.map { ShardPolicy(maximumPerRegion: $0) } ?? .automatic(cpus: cpus)
        let plan = ShardPlan(regions: [GuestPhysicalRange(start: GuestPhysicalAddress(0), size: size)], policy: policy)
        memory = try GuestMemory.make(
            in: machine, host: LinuxMemoryHost(), plan: plan, sides: .inPlace, name: "bench")
    }

    /// Releases and closes everything, as the end of a TD does.
    func tearDown() throws {
        let teardown = Teardown(machine: machine, vcpus: [], memory: memory, gate: VCPUGate())
        let plan = try TeardownPlan(teardown.facts(terminate: .absent, readsResidency: false))
        let report = teardown.run(plan)
        if let failure = report.failures.words { throw Unavailable(failure) }
        guard report.remaining == .zero else { throw Unavailable("memory is left: \(report)") }
    }
}

/// A peer's memory; throws where there is none.
func makePeer(_ bytes: ByteCount) throws -> peer_memory {
    let memory = peer_memory_make(bytes.rawValue)
    guard memory.file >= 0 else { throw Unavailable("no guest_memfd with MMAP and INIT_SHARED on a VM of type 0") }
    return memory
}

/// A peer's time, which is 0 when a call failed.
func checked(_ time: UInt64) throws -> Double {
    guard time > 0 else { throw Unavailable("a system call of the peer failed") }
    return Double(time)
}
