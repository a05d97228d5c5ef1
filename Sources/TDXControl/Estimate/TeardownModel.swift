internal import MemoryUnits

/// How long the end of a TD takes on TDX hardware, by a model: a cost for each page of 4 KiB that is private, fitted to
/// the six times that were posted for KVM with and without KVM_TDX_TERMINATE_VM.
///
/// Terminated first, a page costs one reclaim, whatever the number of vCPUs. Taken from a living TD, it costs four
/// SEAMCALLs and a kick of every vCPU: between the posted numbers of vCPUs the cost is a straight line, beyond the largest
/// the last line goes on, without a measurement.
enum TeardownModel {
    /// How a TD is ended.
    enum Path: String, Hashable, Sendable, CaseIterable {
        case terminateFirst = "terminate-first"
        case dynamicRemoval = "dynamic-removal"
    }

    /// One posted measurement: a TD, and seconds for its end on either path.
    struct Posted: Hashable, Sendable {
        var vcpus: Int
        var gibibytes: UInt64
        var dynamicRemoval: Double
        var terminateFirst: Double

        /// Pages of 4 KiB.
        var pages: Double { Double(gibibytes << 18) }
    }

    /// By the number of vCPUs, ascending.
    static let posted = [
        Posted(vcpus: 4, gibibytes: 18, dynamicRemoval: 72, terminateFirst: 24),
        Posted(vcpus: 32, gibibytes: 107, dynamicRemoval: 517, terminateFirst: 134),
        Posted(vcpus: 64, gibibytes: 400, dynamicRemoval: 5539, terminateFirst: 467),
    ]

    /// Where a CPU without the partial-write erratum lets the kernel leave the reset of reclaimed pages out, this part of the
    /// time remains at best: the posted gain is up to 40 %. The posted times are with the reset.
    static let bestWithoutReset = 0.6

    /// The largest number of vCPUs for which a time was posted.
    static var mostPostedVCPUs: Int { posted[posted.count - 1].vcpus }

    /// Seconds for one page of 4 KiB.
    /// - Precondition: `vcpus` is at least 1.
    static func secondsPerPage(_ path: Path, vcpus: Int) -> Double {
        precondition(vcpus > 0, "a TD has a vCPU")
        switch path {
        case .terminateFirst:
            return posted.reduce(0) { $0 + $1.terminateFirst / $1.pages } / Double(posted.count)
        case .dynamicRemoval:
            let points = posted.map { (vcpus: Double($0.vcpus), cost: $0.dynamicRemoval / $0.pages) }
            guard vcpus > posted[0].vcpus else { return points[0].cost }
            let next = points.dropFirst().firstIndex { Double(vcpus) <= $0.vcpus } ?? points.count - 1
            let (low, high) = (points[next - 1], points[next])
            return low.cost + (high.cost - low.cost) * (Double(vcpus) - low.vcpus) / (high.vcpus - low.vcpus)
        }
    }

    /// Seconds for the end of a TD with that much private memory resident.
    static func seconds(_ path: Path, memory: ByteCount, vcpus: Int) -> Double {
        Double(memory.rawValue) / Double(pageSize) * secondsPerPage(path, vcpus: vcpus)
    }
}

/// What `tdxctl estimate` answers.
struct TeardownEstimate: Encodable, Hashable, Sendable {
    struct Row: Encodable, Hashable, Sendable {
        var path: String
        var seconds: Double
        /// The same where reclaimed pages need no reset and all that is posted is gained; with the erratum as `seconds`.
        var secondsAtBest: Double
        var microsecondsPerPage: Double

        enum CodingKeys: String, CodingKey {
            case path, seconds
            case secondsAtBest = "seconds_at_best"
            case microsecondsPerPage = "microseconds_per_page"
        }
    }

    /// Always true: nothing here was measured on this host.
    let isModel = true
    let basis = "fitted to six posted times of TDX hosts: 18, 107 and 400 GiB with 4, 32 and 64 vCPUs"
    var memoryBytes: UInt64
    var vcpus: Int
    /// The CPU has the partial-write erratum, so that the kernel resets every reclaimed page.
    var erratum: Bool
    /// More vCPUs than any posted time has.
    var extrapolated: Bool
    /// The paths that were asked for.
    var estimates: [Row]
    /// From this host's own certificates; empty where they have no figures, or no daemon answers.
    var history: [TeardownHistory] = []

    init(memory: ByteCount, vcpus: Int, erratum: Bool, paths: [TeardownModel.Path]) {
        memoryBytes = memory.rawValue
        self.vcpus = vcpus
        self.erratum = erratum
        extrapolated = vcpus > TeardownModel.mostPostedVCPUs && paths.contains(.dynamicRemoval)
        estimates = paths.map { path in
            let seconds = TeardownModel.seconds(path, memory: memory, vcpus: vcpus)
            return Row(
                path: path.rawValue, seconds: seconds,
                secondsAtBest: erratum ? seconds : seconds * TeardownModel.bestWithoutReset,
                microsecondsPerPage: TeardownModel.secondsPerPage(path, vcpus: vcpus) * 1e6)
        }
    }

    enum CodingKeys: String, CodingKey {
        case isModel = "model"
        case basis
        case memoryBytes = "memory_bytes"
        case vcpus, erratum, extrapolated, estimates, history
    }
}
