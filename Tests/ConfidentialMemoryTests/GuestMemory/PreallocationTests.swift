import KVM
import MemoryUnits
import Synchronization
import SystemPackage
import Testing

@testable import ConfidentialMemory

@Suite struct PreallocationTests {
    @Test(arguments: [1, 2, 9])
    func `all private memory is resident afterwards and the shared side is not`(threads: Int) throws {
        let bench = TestBench()
        let (memory, _) = try bench.makeMemory()
        let heard = Mutex<[ByteCount]>([])
        try memory.preallocate(threads: threads, progress: { done in heard.withLock { $0.append(done) } })
        #expect(try memory.residency().private == memory.size)
        #expect(try memory.residency().shared == .zero)
        let steps = heard.withLock { $0 }
        #expect(steps == steps.sorted() && steps.last == memory.size)
        memory.close()
    }

    @Test func `it can be cancelled between two steps`() throws {
        let bench = TestBench()
        let (memory, _) = try bench.makeMemory()
        let asked = Mutex(0)
        #expect(throws: PreallocationError.cancelled) {
            try memory.preallocate(threads: 1) {
                asked.withLock { asked in
                    asked += 1
                    return asked > 1
                }
            }
        }
        #expect(try memory.residency().private == GuestMemory.allocationStep)
        memory.close()
    }

    @Test func `a TD that gets no memory is refused and leaves nothing`() throws {
        let bench = TestBench()
        bench.journal.fail { $0.name == "allocate" ? .noMemory : nil }
        var configuration = try TestBench.configuration()
        configuration.isPreallocated = true
        #expect {
            _ = try TrustDomain(configuration, system: bench.system, host: bench.host)
        } throws: { error in
            guard case .refused(let refusal)? = error as? TrustDomainError else { return false }
            return refusal.operation == "allocate" && refusal.errno == .noMemory
        }
        #expect(bench.held == KernelLedger.Counts())
    }
}
