import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import SystemPackage
import Testing

@testable import ConfidentialMemory

@Suite struct GuestExitTests {
    private static func makeDomain(_ bench: TestBench) throws -> TrustDomain {
        let domain = try TrustDomain(try TestBench.configuration(), system: bench.system, host: bench.host)
        bench.journal.reset()
        return domain
    }

    /// The guest's hypercall, and what it is told.
    private static func map(
        _ bench: TestBench, _ domain: TrustDomain, _ arguments: [UInt64]
    ) -> String? {
        var exits = GuestExits(domain)
        let answer = exits.handle(.hypercall(number: 12, arguments: arguments), of: domain.vcpus[0])
        #expect(answer == .reenter)
        return bench.journal.calls.last { $0.name == "answer" }?.detail
    }

    @Test func `a mapping request converts and is answered 0`() throws {
        let bench = TestBench()
        let domain = try Self.makeDomain(bench)
        #expect(Self.map(bench, domain, [0x40_0000, 512, 0, 0, 0, 0]) == "0")
        #expect(domain.runs()[1] == run(0x400..<0x600, .shared))
        #expect(Self.map(bench, domain, [0x40_0000, 512, 0x11, 0, 0, 0]) == "0")
        #expect(domain.runs() == [run(0..<0x1800, .private)])
        _ = try domain.stop()
    }

    @Test(
        arguments: [
            [0x40_0800, 1, 0], [0x40_0000, 0, 0], [0x40_0000, 1 << 52, 0], [UInt64.max - 0xFFF, 1, 0],
            [UInt64.max - 0xFFF, 2, 0], [0x180_0000, 1, 0], [1 << 60, 1, 16],
        ] as [[UInt64]])
    func `a request for what is no memory is answered EINVAL and changes nothing`(arguments: [UInt64]) throws {
        let bench = TestBench()
        let domain = try Self.makeDomain(bench)
        #expect(Self.map(bench, domain, arguments + [0, 0, 0]) == "22")
        #expect(domain.runs() == [run(0..<0x1800, .private)])
        _ = try domain.stop()
    }

    @Test(arguments: [
        (Errno.noMemory, "11"), (.resourceBusy, "11"), (.interrupted, "11"), (.ioError, "22"),
    ])
    func `a refusal that may pass is answered EAGAIN, another EINVAL`(errno: Errno, answer: String) throws {
        let bench = TestBench()
        let domain = try Self.makeDomain(bench)
        bench.journal.fail { $0.name == "attributes" ? errno : nil }
        #expect(Self.map(bench, domain, [0x40_0000, 512, 0, 0, 0, 0]) == answer)
        bench.journal.fail(where: nil)
        #expect(domain.runs() == [run(0..<0x1800, .private)])
        _ = try domain.stop()
    }

    @Test func `a request that comes while the TD stops is put off`() throws {
        let bench = TestBench()
        let domain = try Self.makeDomain(bench)
        _ = try domain.stop()
        #expect(Self.map(bench, domain, [0x40_0000, 512, 0, 0, 0, 0]) == "11")
    }

    @Test func `a large request is cut into chunks of 2 MiB and continues where it stopped`() throws {
        let bench = TestBench()
        let domain = try Self.makeDomain(bench)
        bench.journal.fail { $0.description == "attributes 0x600000–0x800000 (2 MiB) shared" ? .noMemory : nil }
        let request: [UInt64] = [0x20_0000, 2048, 0, 0, 0, 0]
        #expect(Self.map(bench, domain, request) == "11")
        #expect(domain.describe().pages[.shared].bytes == .mebibytes(4))
        bench.journal.fail(where: nil)
        bench.journal.reset()
        #expect(Self.map(bench, domain, request) == "0")
        #expect(bench.journal.names.filter { $0 == "attributes" }.count == 2, "what is done costs nothing again")
        #expect(domain.describe().pages[.shared].bytes == .mebibytes(8))
        _ = try domain.stop()
    }

    @Test func `a fault on the wrong side converts the page`() throws {
        let bench = TestBench()
        let domain = try Self.makeDomain(bench)
        var exits = GuestExits(domain)
        let fault = VCPUExit.memoryFault(
            isPrivate: false, address: GuestPhysicalAddress(0x12_3456), size: ByteCount(4096))
        #expect(exits.handle(fault, of: domain.vcpus[0]) == .reenter)
        #expect(domain.runs()[1] == run(0x123..<0x124, .shared))
        _ = try domain.stop()
    }

    @Test func `a page that faults for ever, or is none, ends the guest with a reason`() throws {
        let bench = TestBench()
        let domain = try Self.makeDomain(bench)
        var exits = GuestExits(domain)
        func fault(_ address: UInt64) -> VCPUExit {
            .memoryFault(isPrivate: true, address: GuestPhysicalAddress(address), size: ByteCount(4096))
        }
        for _ in 0..<GuestExits.futileFaults { #expect(exits.handle(fault(0x1000), of: domain.vcpus[0]) == .reenter) }
        #expect(exits.handle(fault(0x1000), of: domain.vcpus[0]) == .fatal("page 0x1000 faulted 65 times as private"))
        #expect(exits.handle(fault(0x2000), of: domain.vcpus[0]) == .reenter)
        guard case .fatal = exits.handle(fault(1 << 40), of: domain.vcpus[0]) else {
            Issue.record("a page that is no memory is fatal")
            return
        }
        #expect(exits.handle(.halt, of: domain.vcpus[0]) == .notMine)
        _ = try domain.stop()
    }

    @Test func `requests that touch are merged, and the last word on a page is kept`() {
        func wish(_ start: UInt64, _ pages: UInt64, _ side: MemorySide) -> ConversionMerge.Wish {
            ConversionMerge.Wish(range(start * 4096, pages: pages), side)
        }
        func group(_ start: UInt64, _ pages: UInt64, _ side: MemorySide, _ members: [Int]) -> ConversionMerge.Group {
            ConversionMerge.Group(range: range(start * 4096, pages: pages), side: side, members: members)
        }
        #expect(
            ConversionMerge.groups([
                wish(10, 2, .shared), wish(20, 1, .shared), wish(12, 3, .shared), wish(11, 1, .shared),
                wish(11, 1, .private), wish(15, 5, .shared),
            ]) == [
                group(10, 5, .shared, [0, 3, 2]), group(20, 1, .shared, [1]), group(11, 1, .private, [4]),
                group(15, 5, .shared, [5]),
            ])
        #expect(ConversionMerge.groups([]) == [])
    }

    @Test func `many vCPUs that ask at once are all served, each for its own pages`() throws {
        let bench = TestBench()
        let domain = try Self.makeDomain(bench)
        let failures = Mutex<[String]>([])
        let threads = try (0..<8).map { (number: UInt64) in
            try SystemThread(name: "asker-\(number)") {
                for round in UInt64(0)..<16 {
                    let page = range((number + round * 8) * pageSize, pages: 1)
                    do {
                        let result = try domain.convertForGuest(page, to: .shared)
                        if result.changed != ByteCount(pageSize) {
                            failures.withLock { $0.append("\(page): \(result)") }
                        }
                    } catch {
                        failures.withLock { $0.append("\(error)") }
                    }
                }
            }
        }
        for thread in threads { thread.join() }
        #expect(failures.withLock { $0 } == [])
        #expect(domain.runs()[0] == run(0..<128, .shared))
        let statistics = domain.memory.observer.statistics(to: .shared)
        #expect(statistics.size.count + statistics.merged == 128)
        #expect(statistics.changed == PageCount(128).bytes)
        _ = try domain.stop()
    }

    @Test func `when a merged conversion stops half-way, each request learns its own part`() throws {
        let bench = TestBench()
        let (memory, _) = try bench.makeMemory()
        // The first request holds the lock while the two others come in: its listener waits for them.
        let others = Mutex<[SystemThread]>([])
        let outcomes = Mutex<[UInt64: String]>([:])
        bench.journal.fail { $0.description == "attributes 0x600000–0x800000 (2 MiB) private" ? .ioError : nil }
        let id = memory.listeners.add(name: "gatekeeper", milliseconds: 60_000) { notice in
            defer { notice.answer(true) }
            guard notice.moment == .leaving, others.withLock({ $0.isEmpty }) else { return }
            for start: UInt64 in [0x40_0000, 0x60_0000] {
                let thread = try? SystemThread(name: "asker") {
                    do throws(ConversionError) {
                        let result = try memory.convertMerging(range(start, mebibytes: 2), to: .private)
                        outcomes.withLock { $0[start] = "done \(result.changed)" }
                    } catch {
                        guard case .incomplete(let incomplete) = error else { return }
                        outcomes.withLock {
                            $0[start] = "\(incomplete.range.start) stopped at \(incomplete.end)"
                        }
                    }
                }
                if let thread { others.withLock { $0.append(thread) } }
            }
            wait { memory.requests.withLock { $0.count } >= 2 }
        }
        _ = try memory.convertMerging(range(0, mebibytes: 2), to: .private)
        memory.listeners.remove(id)
        for thread in others.withLock({ $0 }) { thread.join() }
        #expect(outcomes.withLock { $0 } == [0x40_0000: "done 2 MiB", 0x60_0000: "0x600000 stopped at 0x600000"])
        #expect(memory.observer.statistics(to: .private).merged == 1)
        memory.close()
    }
}
