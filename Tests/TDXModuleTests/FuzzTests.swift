import TDXModule
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// How many steps random sequences take in all. `TDXD_FUZZ_CALLS` changes it: 10,000,000 is for a release build.
private let fuzzCalls = getenv("TDXD_FUZZ_CALLS").flatMap { Int(String(cString: $0)) } ?? 40_000

/// The first sequence's seed; the others follow it. `TDXD_FUZZ_FIRST_SEED` changes it.
private let firstSeed = getenv("TDXD_FUZZ_FIRST_SEED").flatMap { UInt64(String(cString: $0)) } ?? 0

/// Set beside a leaf that succeeded on an entry of 1 GiB.
private let gibibyteMark: UInt16 = 1 << 15

@Suite struct `Random sequences of calls` {
    /// Steps of one sequence, after which everything starts anew.
    static let length = 2_000

    @Test func `give the statuses and registers of the naive model, and break no invariant`() throws {
        let sequences = max(1, fuzzCalls / Self.length)
        var reached: Set<UInt64> = []
        var succeeded: Set<UInt16> = []
        for seed in firstSeed..<firstSeed + UInt64(sequences) {
            // Every third sequence is the late version's.
            let version: ModuleVersion = seed % 3 == 2 ? .late : .v1_5_01
            if let failure = try Self.run(seed, version, &reached, &succeeded) {
                let script = try Self.shrink(failure.script, version)
                Issue.record(
                    "seed \(seed), version \(version.rawValue): \(failure.text)\nshortest script:\n\(script.map(\.description).joined(separator: "\n"))"
                )
                return
            }
        }
        // The sequences get somewhere: every leaf of the naive model succeeds, and most refusals are met.
        let leaves: [SeamcallLeaf] = [
            .vpEnter, .mngAddcx, .memPageAdd, .memSeptAdd, .vpAddcx, .memPageRelocate, .memPageAug, .memRangeBlock,
            .mngKeyConfig, .mngCreate, .vpCreate, .memPageDemote, .memPagePromote, .mrFinalize, .vpFlush,
            .mngVpflushdone,
            .mngKeyFreeid, .mngInit, .vpInit, .phymemPageRdmd, .memSeptRd, .phymemPageReclaim, .memPageRemove,
            .memSeptRemove, .memTrack, .memRangeUnblock, .phymemCacheWb, .phymemPageWbinvd,
        ]
        #expect(leaves.filter { !succeeded.contains($0.rawValue) } == [])
        // Pages of 1 GiB are put together, taken apart, removed.
        let large: [SeamcallLeaf] = [.memPagePromote, .memPageDemote, .memPageRemove, .memRangeBlock]
        #expect(large.filter { !succeeded.contains($0.rawValue | gibibyteMark) } == [])
        #expect(reached.count > 30)
        print(
            "random sequences: seeds \(firstSeed) to \(firstSeed + UInt64(sequences) - 1), \(sequences * Self.length) calls, "
                + "\(reached.count) different statuses")
    }

    private static func run(
        _ seed: UInt64, _ version: ModuleVersion, _ reached: inout Set<UInt64>, _ succeeded: inout Set<UInt16>
    ) throws -> (text: String, script: [FuzzStep])? {
        let pair = try Pair(version)
        var generator = FuzzGenerator(seed: seed)
        var script: [FuzzStep] = []
        for index in 0..<length {
            let step = generator.next(pair.naive)
            script.append(step)
            defer {
                if case .call(let registers, _) = step {
                    reached.insert(pair.lastStatus)
                    if pair.lastStatus == 0 {
                        let leaf = UInt16(truncatingIfNeeded: registers.rax)
                        succeeded.insert(leaf)
                        if registers.rcx & 7 == 2 { succeeded.insert(leaf | gibibyteMark) }
                    }
                }
            }
            if let difference = pair.make(step) { return ("step \(index), \(step): \(difference)", script) }
            if index % 50 == 49, let broken = pair.brokenInvariant() { return ("step \(index): \(broken)", script) }
        }
        return nil
    }

    /// Whether a script fails, on a pair of its own.
    private static func fails(_ script: [FuzzStep], _ version: ModuleVersion) throws -> Bool {
        let pair = try Pair(version)
        for step in script where pair.make(step) != nil { return true }
        return pair.brokenInvariant() != nil
    }

    /// Leaves out as many steps as it can while the script still fails.
    private static func shrink(_ script: [FuzzStep], _ version: ModuleVersion) throws -> [FuzzStep] {
        var script = script
        var size = script.count / 2
        while size >= 1 {
            var at = 0
            while at < script.count {
                var shorter = script
                shorter.removeSubrange(at..<min(at + size, script.count))
                if try fails(shorter, version) { script = shorter } else { at += size }
            }
            size /= 2
        }
        return script
    }
}
