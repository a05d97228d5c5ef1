import ControlInterface
import MemoryUnits
import Testing
import Varlink

@testable import TDXControl

@Suite struct `The model of a TD's end` {
    /// Gibibytes, vCPUs, seconds by dynamic removal and terminated first, as they were posted.
    static let posted: [(UInt64, Int, Double, Double)] = [(18, 4, 72, 24), (107, 32, 517, 134), (400, 64, 5539, 467)]

    @Test(arguments: posted)
    func `each posted time is met within 20 %`(_ gib: UInt64, _ vcpus: Int, _ slow: Double, _ fast: Double) {
        let removal = TeardownModel.seconds(.dynamicRemoval, memory: .gibibytes(gib), vcpus: vcpus)
        let terminated = TeardownModel.seconds(.terminateFirst, memory: .gibibytes(gib), vcpus: vcpus)
        #expect(abs(removal - slow) <= 0.2 * slow, "\(removal)")
        #expect(abs(terminated - fast) <= 0.2 * fast, "\(terminated)")
    }

    @Test func `more memory or more vCPUs never take less time, and terminating first is always faster`() {
        var last = 0.0
        for vcpus in 1...512 {
            let cost = TeardownModel.secondsPerPage(.dynamicRemoval, vcpus: vcpus)
            #expect(cost >= last)
            #expect(cost > TeardownModel.secondsPerPage(.terminateFirst, vcpus: vcpus))
            last = cost
        }
        for path in TeardownModel.Path.allCases {
            let one = TeardownModel.seconds(path, memory: .gibibytes(1), vcpus: 8)
            #expect(abs(TeardownModel.seconds(path, memory: .gibibytes(7), vcpus: 8) - 7 * one) < 1e-9 * one)
        }
    }

    @Test(arguments: [true, false])
    func `it is the kernel that resets pages, or leaves it out`(erratum: Bool) {
        let estimate = TeardownEstimate(memory: .gibibytes(4), vcpus: 4, erratum: erratum, paths: [.terminateFirst])
        let text = render(estimate, .plain)
        #expect(
            text.contains(erratum ? "The kernel resets every reclaimed page" : "the kernel leaves the reset"), "\(text)"
        )
        #expect(!text.contains("tdxd resets"))
    }

    @Test func `only without the erratum there is something to gain`() {
        let with = TeardownEstimate(memory: .gibibytes(4), vcpus: 4, erratum: true, paths: [.terminateFirst])
        let without = TeardownEstimate(memory: .gibibytes(4), vcpus: 4, erratum: false, paths: [.terminateFirst])
        #expect(with.estimates[0].secondsAtBest == with.estimates[0].seconds)
        #expect(without.estimates[0].seconds == with.estimates[0].seconds)
        #expect(without.estimates[0].secondsAtBest < without.estimates[0].seconds)
    }

    @Test func `the command needs no daemon and says that it shows a model`() {
        let text = tdxctl("estimate", "--memory", "400G", "--vcpus", "64", "--socket", "/nonexistent")
        #expect(text.status == 0)
        #expect(text.output.hasPrefix("MODEL, not a measurement: "))
        #expect(text.output.contains("dynamic-removal  1 h 32 min  55 min 23 s     53 µs\n"))
        let json = tdxctl(
            "estimate", "--memory", "4G", "--vcpus", "65", "--terminate", "no", "--erratum", "--json=short")
        #expect(json.output.contains(#""model":true"#) && json.output.contains(#""extrapolated":true"#))
        #expect(json.output.contains(#""path":"dynamic-removal""#) && !json.output.contains("terminate-first"))
        #expect(tdxctl("estimate", "--memory", "4G", "--vcpus", "0").status == 2)
        #expect(tdxctl("estimate", "--memory", "4G", "--terminate", "maybe").status == 2)
        #expect(tdxctl("estimate").status == 2)
    }

    private static func end(
        _ milliseconds: Double, mebibytes: UInt64 = 256, policy: String = "auto", holderDied: Bool = false,
        holds: Bool = true
    ) -> CertificateSummary {
        CertificateSummary(
            TeardownCertificate(
                name: "web1", id: "0", backend: .memfd, policy: policy, path: .dynamicRemoval, holderDied: holderDied,
                startedAt: "2026-01-01T00:00:00.000Z", milliseconds: milliseconds, memoryBytes: mebibytes << 20,
                releasedBytes: mebibytes << 20, keyID: nil, phases: [],
                proofs: [TeardownProof(name: "residency_zero", holds: holds, evidence: "")], failures: [], pending: nil)
        )
    }

    @Test func `a host's own ends are told beside the model, by their median`() throws {
        let ends = [Self.end(100), Self.end(300), Self.end(200)]
        let history = TeardownHistory.of(ends, memory: .gibibytes(1))
        try #require(history.count == 1)
        #expect(history[0].ends == 3 && history[0].emulated && history[0].path == .dynamicRemoval)
        // 256 MiB in 200 ms.
        #expect(abs(history[0].seconds - 0.8) < 1e-9)
        #expect(render(history, .plain).contains("MEASURED"))
    }

    @Test func `ends that say nothing of memory are left out`() {
        let none = [
            Self.end(1, policy: "deferred"), Self.end(1, holderDied: true), Self.end(1, holds: false),
            Self.end(1, mebibytes: 1),
        ]
        #expect(TeardownHistory.of(none + none + none, memory: .gibibytes(1)).isEmpty)
        #expect(TeardownHistory.of([Self.end(1), Self.end(1)], memory: .gibibytes(1)).isEmpty)
    }

    @Test(arguments: [(0.5, "500 ms"), (59, "59.0 s"), (60, "1 min 0 s"), (5539, "1 h 32 min")] as [(Double, String)])
    func `a long time is told in hours and minutes`(_ seconds: Double, _ text: String) {
        #expect(formatted(longSeconds: seconds) == text)
    }
}
