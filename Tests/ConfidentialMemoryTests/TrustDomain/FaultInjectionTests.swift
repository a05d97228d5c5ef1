import KVM
import MemoryUnits
import SystemPackage
import TestSupport
import Testing

@testable import ConfidentialMemory

/// One life of a TD, in which every call over the seam fails once.
@Suite struct FaultInjectionTests {
    private static let errnos: [Errno] = [
        .interrupted, .resourceTemporarilyUnavailable, .noMemory, .resourceBusy, .ioError,
    ]

    /// How a life went: what failed, and what was not as it must be.
    private struct Outcome {
        var calls = 0
        var failures: [String] = []
        var broken: [String] = []
    }

    /// Create, load, 200 conversions, verify, stop. A conversion that fails is followed by the next.
    private static func live(_ bench: TestBench) throws -> Outcome {
        var outcome = Outcome()
        var random = SeededRandom(seed: 0x7d5d_fa17)
        do {
            var configuration = try SmallFirmware.configuration()
            configuration.isPrefaulted = true
            let domain = try TrustDomain(configuration, system: bench.system, host: bench.host)
            // Kept up to date from here on.
            _ = try domain.memory.publishedCounts()
            for step in 0..<200 {
                let start = random.below(2047)
                let count = 1 + random.below(min(24, 2048 - start))
                let range = range(start * pageSize, pages: count)
                let side: MemorySide = random.below(2) == 0 ? .shared : .private
                do {
                    _ = try domain.convert(range, to: side)
                } catch {
                    outcome.failures.append("\(error)")
                    try bench.journal.paused { try check(step: "conversion \(step)", domain, &outcome) }
                }
                if step % 8 == 0 { try domain.memory.fill(range, with: UInt8(truncatingIfNeeded: step)) }
            }
            try bench.journal.paused { try check(step: "conversions", domain, &outcome) }
            do {
                let found = try domain.verify(reclaiming: true)
                if !found.doubles.isEmpty { outcome.broken.append("verify found \(found.doubles)") }
            } catch {
                outcome.failures.append("\(error)")
            }
            let report = try domain.stop()
            if let failure = report.failures.words { outcome.failures.append(failure) }
        } catch {
            outcome.failures.append("\(error)")
        }
        outcome.calls = bench.journal.calls.count
        if bench.held != KernelLedger.Counts() { outcome.broken.append("the kernel still holds \(bench.held)") }
        return outcome
    }

    /// The map, the kernel and the files must agree at every rest.
    private static func check(step: String, _ domain: TrustDomain, _ outcome: inout Outcome) throws {
        let kernel = (domain.machine as! ObservedMachine).inner as! PlainMachine
        if let disagreement = try domain.memory.disagreement(with: kernel) {
            outcome.broken.append("after \(step): \(disagreement)")
        }
    }

    @Test func `a life without failures has none`() throws {
        let outcome = try Self.live(TestBench())
        #expect(outcome.failures.isEmpty)
        #expect(outcome.broken.isEmpty)
        #expect(outcome.calls > 600)
    }

    /// Eight slices, so that they can run side by side.
    @Test(arguments: 0..<8)
    func `whichever call fails, nothing is left half-way, nothing leaks, and the error names the call`(
        slice: Int
    ) throws {
        let traits = Self.traits(slice)
        let whole = TestBench(traits)
        _ = try Self.live(whole)
        let calls = whole.journal.calls
        var failed = 0
        for position in stride(from: slice, to: calls.count, by: 8) where calls[position].canFail {
            let errno = Self.errnos[position / 8 % Self.errnos.count]
            let bench = TestBench(traits)
            bench.journal.fail(at: position, with: errno)
            let outcome = try Self.live(bench)
            // Which call it was is the journal's to say: threads release memory, and may come in another order.
            guard let call = bench.journal.failed.first else { continue }
            failed += 1
            let place = "call \(position), \(call), \(errno)"
            #expect(outcome.broken.isEmpty, "\(place)")
            #expect(outcome.failures.count <= 1, "\(place): \(outcome.failures)")
            if let failure = outcome.failures.first {
                #expect(failure.contains(call.name), "\(place): \(failure)")
            } else {
                #expect(Self.isForgivable(call, errno), "\(place) was swallowed")
            }
        }
        #expect(failed > calls.count / 16, "the injector reaches most calls")
    }

    /// Every other slice has a kernel that can terminate.
    private static func traits(_ slice: Int) -> PlainKernel.Traits {
        var traits = PlainKernel.Traits()
        traits.terminate = slice % 2 == 0 ? .absent : .announced
        return traits
    }

    /// What the code makes up for, or does without.
    private static func isForgivable(_ call: CallJournal.Call, _ errno: Errno) -> Bool {
        switch call.name {
        case "attributes", "punch": errno == .interrupted || errno == .resourceTemporarilyUnavailable
        // Numbers for reports: a stop without them is still a stop. In a conversion they are made again.
        case "resident": true
        // Whether the VM lives is asked again before it counts as dead.
        case "check": true
        // The module need not tell: KVM's copy of CPUID then holds what KVM looks at.
        case "get-cpuid": errno == .ioError
        // Absence is found by asking, and a busy TD is asked again.
        case "terminate": errno == .resourceBusy
        default: false
        }
    }
}
