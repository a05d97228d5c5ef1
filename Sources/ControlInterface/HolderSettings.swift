/// The host's settings that hold for a TD from its build to its end; each nil is the holder's own.
public struct HolderSettings: Codable, Hashable, Sendable {
    /// No backing file is smaller where the TD is larger. Bytes.
    public var shardMinimumBytes: UInt64?
    /// Bytes in one punch.
    public var releaseChunkBytes: UInt64?
    /// Backing files that are given back at a time.
    public var releaseThreads: Int?
    public var emulation: EmulationSettings?

    public static let shardMinimums: ClosedRange<UInt64> = 2 << 20...1 << 40
    public static let shardUnit: UInt64 = 2 << 20
    public static let threadCounts = 1...64

    public init(
        shardMinimumBytes: UInt64? = nil, releaseChunkBytes: UInt64? = nil, releaseThreads: Int? = nil,
        emulation: EmulationSettings? = nil
    ) {
        self.shardMinimumBytes = shardMinimumBytes
        self.releaseChunkBytes = releaseChunkBytes
        self.releaseThreads = releaseThreads
        self.emulation = emulation
    }

    enum CodingKeys: String, CodingKey {
        case shardMinimumBytes = "shard_minimum_bytes"
        case releaseChunkBytes = "release_chunk_bytes"
        case releaseThreads = "release_threads"
        case emulation
    }

    /// - Throws: `ControlError.invalidField` for the first value that is out of its range.
    public func checked() throws(ControlError) -> Self {
        if let minimum = shardMinimumBytes {
            guard Self.shardMinimums.contains(minimum), minimum % Self.shardUnit == 0 else {
                throw .invalidField(
                    field: "settings.shard_minimum_bytes", value: String(minimum),
                    limit: "a multiple of \(Self.shardUnit) from \(Self.shardMinimums.lowerBound) to "
                        + "\(Self.shardMinimums.upperBound)")
            }
        }
        if let chunk = releaseChunkBytes {
            guard ReleaseLimits.chunk.contains(chunk), chunk % ReleaseLimits.chunkUnit == 0 else {
                throw .invalidField(
                    field: "settings.release_chunk_bytes", value: String(chunk),
                    limit: "a multiple of \(ReleaseLimits.chunkUnit) from \(ReleaseLimits.chunk.lowerBound) to "
                        + "\(ReleaseLimits.chunk.upperBound)")
            }
        }
        if let threads = releaseThreads, !Self.threadCounts.contains(threads) {
            throw .invalidField(
                field: "settings.release_threads", value: String(threads),
                limit: "\(Self.threadCounts.lowerBound) to \(Self.threadCounts.upperBound)")
        }
        if let number = emulation?.failingRemoval, !(1...UInt64(Int.max)).contains(number) {
            throw .invalidField(
                field: "settings.emulation.failing_removal", value: String(number), limit: "1 to \(Int.max)")
        }
        return self
    }
}

/// What an emulated backend plays, for trials; each nil is the holder's own. A backend on hardware ignores it.
public struct EmulationSettings: Codable, Hashable, Sendable {
    /// What an emulated kernel makes of KVM_TDX_TERMINATE_VM.
    public enum Terminate: String, Codable, Hashable, Sendable, CaseIterable {
        case announced, unannounced, absent
    }

    /// As the phases of a teardown are named.
    public enum Pause: String, Codable, Hashable, Sendable, CaseIterable {
        case quiesce, terminate, release, close
    }

    public var terminate: Terminate?
    /// The phase of the end at whose beginning the holder stops itself.
    public var pauseAt: Pause?
    /// Which page that is taken from the TD the module refuses to give up, from 1.
    public var failingRemoval: UInt64?
    /// The first vCPU never leaves KVM_RUN.
    public var stuckVCPU: Bool?
    /// The kernel has KVM_PRE_FAULT_MEMORY.
    public var preFault: Bool?

    public init(
        terminate: Terminate? = nil, pauseAt: Pause? = nil, failingRemoval: UInt64? = nil, stuckVCPU: Bool? = nil,
        preFault: Bool? = nil
    ) {
        self.terminate = terminate
        self.pauseAt = pauseAt
        self.failingRemoval = failingRemoval
        self.stuckVCPU = stuckVCPU
        self.preFault = preFault
    }

    enum CodingKeys: String, CodingKey {
        case terminate
        case pauseAt = "pause_at"
        case failingRemoval = "failing_removal"
        case stuckVCPU = "stuck_vcpu"
        case preFault = "pre_fault"
    }
}
