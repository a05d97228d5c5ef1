/// How long calls would take on hardware, for estimates. Nothing sleeps: the module only adds up.
///
/// Calibrated to posted teardown times of guests of 18 GB to 400 GB: removing a page from a live trust domain took 15.3,
/// 18.4 and 52.8 µs with 4, 32 and 64 vCPUs (BLOCK, TRACK with its kicks, REMOVE, WBINVD); reclaiming it after the key
/// was released took 5.1, 4.8 and 4.5 µs. The split of the live figure among its four calls is a guess; their sum is not.
///
/// One cost of a reclaim, 4.8 µs, meets the three posted times within 8 %, and makes the posted ratio of 11.9 at 400 GB
/// and 64 vCPUs one of 11.0. Least squares of the seconds, which the largest guest decides, would give 4.48 µs and 11.8, and miss the
/// smallest guest by 12 %. Three points in which size and vCPUs grow together do not tell whether the cost falls with either.
public struct LatencyModel: Hashable, Sendable {
    /// Nanoseconds of a call of each leaf; leaves that are not listed take `other`.
    public var nanoseconds: [SeamcallLeaf: UInt64]
    /// Nanoseconds of any other leaf.
    public var other: UInt64
    /// Nanoseconds of one MEM.TRACK, with the kick of every vCPU, by their number; linear in between, ascending.
    public var track: [(vcpus: Int, nanoseconds: UInt64)] {
        get { trackPoints.map { ($0.vcpus, $0.nanoseconds) } }
        set { trackPoints = newValue.map { Point(vcpus: $0.vcpus, nanoseconds: $0.nanoseconds) } }
    }

    private struct Point: Hashable, Sendable {
        var vcpus: Int
        var nanoseconds: UInt64
    }
    private var trackPoints: [Point]

    public init(nanoseconds: [SeamcallLeaf: UInt64], other: UInt64, track: [(vcpus: Int, nanoseconds: UInt64)]) {
        self.nanoseconds = nanoseconds
        self.other = other
        trackPoints = track.map { Point(vcpus: $0.vcpus, nanoseconds: $0.nanoseconds) }
    }

    /// The calibration above.
    public static let published = LatencyModel(
        nanoseconds: [
            .memRangeBlock: 2_000, .memPageRemove: 3_000, .phymemPageWbinvd: 4_000, .phymemPageReclaim: 4_800,
        ],
        other: 2_000, track: [(4, 6_300), (32, 9_400), (64, 43_800)])

    /// Nanoseconds of one call for a trust domain with that many vCPUs.
    public func nanoseconds(_ leaf: SeamcallLeaf, vcpus: Int) -> UInt64 {
        guard leaf == .memTrack, let first = trackPoints.first, let last = trackPoints.last else {
            return nanoseconds[leaf] ?? other
        }
        if vcpus <= first.vcpus { return first.nanoseconds }
        for (low, high) in zip(trackPoints, trackPoints.dropFirst()) where vcpus <= high.vcpus {
            let span = Int64(high.nanoseconds) - Int64(low.nanoseconds)
            return UInt64(Int64(low.nanoseconds) + span * Int64(vcpus - low.vcpus) / Int64(high.vcpus - low.vcpus))
        }
        return last.nanoseconds
    }
}
