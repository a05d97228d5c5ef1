public import MemoryUnits
internal import Synchronization

/// Conditions that a host or guest should be ready for but that a model never meets by itself.
public enum Fault: Int, Codable, Hashable, Sendable, CaseIterable {
    /// RDSEED gives nothing: `RND_NO_ENTROPY`.
    case entropy = 0
    /// Key programming fails: `KEY_GENERATION_FAILED`.
    case keyGeneration
    /// An interrupt is pending at the next point where a leaf looks: CACHE.WB, PROMOTE, DEMOTE, ACCEPT of 2 MiB.
    case interrupt
    /// IA32_TSC_ADJUST changed: `INCONSISTENT_MSR`.
    case tscAdjust
    /// The time-stamp counter went backwards: `TSC_ROLLBACK`.
    case tscRollback
    /// IA32_MISC_ENABLE limits CPUID: `LIMIT_CPUID_MAXVAL_SET`.
    case cpuidLimit
    /// The PAMT's entry of a page that MEM.PAGE.REMOVE or PHYMEM.PAGE.RECLAIM takes from a TD is damaged:
    /// `PAGE_METADATA_INCORRECT`, and the page stays the TD's.
    case pageMetadata
}

/// A fault that a call met, after passing some places that look for it.
struct MetFault: Hashable, Sendable {
    var fault: Fault
    var skipped: Int
}

/// Makes faults happen a given number of times, at the next places that look for them.
public final class FaultInjector: Sendable {
    private struct Plan: Sendable {
        var remaining = [Int](repeating: 0, count: Fault.allCases.count)
        /// Places that look, before the first fault happens.
        var skip = [Int](repeating: 0, count: Fault.allCases.count)
        var poisoned: Set<UInt64> = []
        var nanoseconds: UInt64?
        /// Places that looked since the observed call began, and the faults that it met.
        var looks = [Int](repeating: 0, count: Fault.allCases.count)
        var met: [MetFault] = []
    }

    private let isArmed = Atomic<Bool>(false)
    private let plan = Mutex(Plan())

    init() {}

    /// `fault` happens `times` times, after `skipping` places that look for it passed unharmed.
    public func arm(_ fault: Fault, times: Int = 1, skipping: Int = 0) {
        plan.withLock { plan in
            plan.remaining[fault.rawValue] = times
            plan.skip[fault.rawValue] = skipping
        }
        isArmed.store(true, ordering: .releasing)
    }

    /// How often `fault` is still to happen.
    public func remaining(_ fault: Fault) -> Int { plan.withLock { $0.remaining[fault.rawValue] } }

    /// A machine check waits in the 64-byte line at `address`: the next access by a guest meets it.
    public func poison(_ address: HostPhysicalAddress) {
        _ = plan.withLock { $0.poisoned.insert(address.rawValue / 64) }
        isArmed.store(true, ordering: .releasing)
    }

    /// Forgets everything that was armed; the clock runs by itself again.
    public func clear() {
        isArmed.store(false, ordering: .releasing)
        plan.withLock { $0 = Plan() }
    }

    /// Stops the module's clock at a time, in nanoseconds.
    public func setClock(nanoseconds: UInt64) { plan.withLock { $0.nanoseconds = nanoseconds } }

    func nanoseconds() -> UInt64 {
        if let fixed = plan.withLock({ $0.nanoseconds }) { return fixed }
        let elapsed = Self.start.duration(to: .now)
        return UInt64(elapsed.components.seconds) * 1_000_000_000
            + UInt64(elapsed.components.attoseconds / 1_000_000_000)
    }
    private static let start = ContinuousClock.now

    /// An observed call begins.
    func beginCall() {
        guard isArmed.load(ordering: .relaxed) else { return }
        plan.withLock { plan in
            plan.looks = [Int](repeating: 0, count: Fault.allCases.count)
            plan.met = []
        }
    }

    /// The faults that the observed call met.
    func endCall() -> [MetFault] { isArmed.load(ordering: .relaxed) ? plan.withLock { $0.met } : [] }

    @inline(__always) func takes(_ fault: Fault) -> Bool {
        isArmed.load(ordering: .relaxed) && takesArmed(fault)
    }

    @inline(never) private func takesArmed(_ fault: Fault) -> Bool {
        plan.withLock { plan in
            let looks = plan.looks[fault.rawValue]
            plan.looks[fault.rawValue] += 1
            guard plan.remaining[fault.rawValue] > 0 else { return false }
            if plan.skip[fault.rawValue] > 0 {
                plan.skip[fault.rawValue] -= 1
                return false
            }
            plan.remaining[fault.rawValue] -= 1
            plan.met.append(MetFault(fault: fault, skipped: looks))
            return true
        }
    }

    @inline(__always) func isPoisoned(_ address: UInt64) -> Bool {
        isArmed.load(ordering: .relaxed) && plan.withLock { $0.poisoned.contains(address / 64) }
    }
}

/// Where the module's random numbers come from.
final class EntropySource: Sendable {
    private let state: Mutex<UInt64?>

    init(seed: UInt64?) { state = Mutex(seed) }

    /// Random bytes; never nil here, the injector makes failures.
    func bytes(_ count: Int) -> [UInt8]? {
        state.withLock { state in
            guard var seed = state else {
                var generator = SystemRandomNumberGenerator()
                return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
            }
            defer { state = seed }
            return (0..<count).map { _ in
                // SplitMix64.
                seed &+= 0x9E37_79B9_7F4A_7C15
                var z = seed
                z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
                z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
                return UInt8(truncatingIfNeeded: z ^ z >> 31)
            }
        }
    }
}
