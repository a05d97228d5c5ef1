// Written by scripts/generate-interfaces; changes belong into the .varlink file.

public import Terms
public import Varlink

/// More conversions than this in one window are a storm.
public struct ConversionStormRule: Codable, Hashable, Sendable {
    /// 1 to 1000000000.
    public var conversions: StormCount
    /// 100 to 3600000.
    public var windowMilliseconds: StormWindow

    public init(conversions: StormCount, windowMilliseconds: StormWindow) {
        self.conversions = conversions
        self.windowMilliseconds = windowMilliseconds
    }

    enum CodingKeys: String, CodingKey {
        case conversions
        case windowMilliseconds = "window_ms"
    }
}

/// What an emulated backend plays, for trials; each null is the holder's own. A backend on hardware ignores it.
public struct EmulationSettings: Codable, Hashable, Sendable {
    /// What an emulated kernel makes of KVM_TDX_TERMINATE_VM.
    public var terminate: EmulationSettings.Terminate?
    /// The phase of the end at whose beginning the holder stops itself.
    public var pauseAt: EmulationSettings.Pause?
    /// Which page that is taken from the TD the module refuses to give up, from 1.
    public var failingRemoval: RemovalNumber?
    /// The first vCPU never leaves KVM_RUN.
    public var stuckVCPU: Bool?
    /// The kernel has KVM_PRE_FAULT_MEMORY.
    public var preFault: Bool?

    public init(
        terminate: EmulationSettings.Terminate? = nil, pauseAt: EmulationSettings.Pause? = nil,
        failingRemoval: RemovalNumber? = nil, stuckVCPU: Bool? = nil, preFault: Bool? = nil
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

/// The host's settings that hold for a TD from its build to its end; each null is the holder's own.
public struct HolderSettings: Codable, Hashable, Sendable {
    /// No backing file is smaller where the TD is larger; a multiple of 2 MiB up to 1 TiB.
    public var shardMinimumBytes: ShardMinimum?
    /// Of one punch: 2 MiB to 64 MiB, a multiple of 2 MiB.
    public var releaseChunkBytes: ReleaseChunk?
    /// Backing files that are given back at a time, 1 to 64.
    public var releaseThreads: ReleaseThreads?
    /// When conversions count as a storm; null for 10000 in a second.
    public var storm: ConversionStormRule?
    public var emulation: EmulationSettings?

    public init(
        shardMinimumBytes: ShardMinimum? = nil, releaseChunkBytes: ReleaseChunk? = nil,
        releaseThreads: ReleaseThreads? = nil, storm: ConversionStormRule? = nil, emulation: EmulationSettings? = nil
    ) {
        self.shardMinimumBytes = shardMinimumBytes
        self.releaseChunkBytes = releaseChunkBytes
        self.releaseThreads = releaseThreads
        self.storm = storm
        self.emulation = emulation
    }

    enum CodingKeys: String, CodingKey {
        case shardMinimumBytes = "shard_minimum_bytes"
        case releaseChunkBytes = "release_chunk_bytes"
        case releaseThreads = "release_threads"
        case storm
        case emulation
    }
}

/// What tdxd has set aside for a TD that is to be made.
public struct Reservation: Codable, Hashable, Sendable {
    /// 32 hexadecimal digits.
    public var id: TrustDomainID
    /// The emulated key id; ignored on backend tdx.
    public var keyID: UInt16
    public var ownerUID: UInt32

    public init(id: TrustDomainID, keyID: UInt16, ownerUID: UInt32) {
        self.id = id
        self.keyID = keyID
        self.ownerUID = ownerUID
    }

    enum CodingKeys: String, CodingKey {
        case id
        case keyID = "key_id"
        case ownerUID = "owner_uid"
    }
}

/// The methods of `io.tdxd.Holder`.
///
/// One TD's process, as tdxd sees it. Only tdxd's own user may call it. Types that are marked @same are those of
/// io.tdxd.Manager.
public enum HolderInterface {
    public static let name = "io.tdxd.Holder"

    /// The methods by name, in the order of the interface. The raw values are those on the wire.
    public enum Method: String, Hashable, Sendable, CaseIterable {
        case build = "Build"
        case describe = "Describe"
        case convert = "Convert"
        case map = "Map"
        case mapChanges = "MapChanges"
        case conversions = "Conversions"
        case planStop = "PlanStop"
        case verify = "Verify"
        case getBacking = "GetBacking"
        case getFigures = "GetFigures"
        case getPrivateRanges = "GetPrivateRanges"
        case stop = "Stop"
        case reclaim = "Reclaim"
        case setPace = "SetPace"

        /// What the method takes and returns.
        public var type: any ControlMethod.Type {
            switch self {
            case .build: HolderInterface.Build.self
            case .describe: HolderInterface.Describe.self
            case .convert: HolderInterface.Convert.self
            case .map: HolderInterface.Map.self
            case .mapChanges: HolderInterface.MapChanges.self
            case .conversions: HolderInterface.Conversions.self
            case .planStop: HolderInterface.PlanStop.self
            case .verify: HolderInterface.Verify.self
            case .getBacking: HolderInterface.GetBacking.self
            case .getFigures: HolderInterface.GetFigures.self
            case .getPrivateRanges: HolderInterface.GetPrivateRanges.self
            case .stop: HolderInterface.Stop.self
            case .reclaim: HolderInterface.Reclaim.self
            case .setPace: HolderInterface.SetPace.self
            }
        }
    }

    /// One TD as its own process sees it.
    public struct Description: Codable, Hashable, Sendable {
        public var name: String
        public var id: String
        /// halted: it runs no more and was terminated where the kernel can; its memory is still there.
        public var state: HolderInterface.State
        public var reason: String?
        public var backend: Backend
        public var emulated: Bool
        public var memoryBytes: UInt64
        public var privateBytes: UInt64
        public var sharedBytes: UInt64
        public var convertingBytes: UInt64
        /// Null where the kernel cannot count them.
        public var residentPrivateBytes: UInt64?
        /// Null where the kernel cannot count them.
        public var residentSharedBytes: UInt64?
        public var vcpus: Int
        /// Null where the kernel keeps it to itself (backend tdx).
        public var keyID: UInt16?
        public var pid: Int32
        public var mrtd: String?
        public var firmware: String?
        public var createdAt: String
        public var ownerUID: UInt32
        /// How far the end has come, while it lasts.
        public var ending: Progress?
        /// Null where no NUMA policy was asked for.
        public var numa: NUMAPlacement?
        /// As in io.tdxd.Manager.
        public var lastWill: LastWillState?

        public init(
            name: String, id: String, state: HolderInterface.State, reason: String? = nil, backend: Backend,
            memoryBytes: UInt64, privateBytes: UInt64, sharedBytes: UInt64, convertingBytes: UInt64,
            residentPrivateBytes: UInt64? = nil, residentSharedBytes: UInt64? = nil, vcpus: Int, keyID: UInt16? = nil,
            pid: Int32, mrtd: String? = nil, firmware: String? = nil, createdAt: String, ownerUID: UInt32,
            ending: Progress? = nil, numa: NUMAPlacement? = nil, lastWill: LastWillState? = nil
        ) {
            self.name = name
            self.id = id
            self.state = state
            self.reason = reason
            self.backend = backend
            self.emulated = backend.isEmulated
            self.memoryBytes = memoryBytes
            self.privateBytes = privateBytes
            self.sharedBytes = sharedBytes
            self.convertingBytes = convertingBytes
            self.residentPrivateBytes = residentPrivateBytes
            self.residentSharedBytes = residentSharedBytes
            self.vcpus = vcpus
            self.keyID = keyID
            self.pid = pid
            self.mrtd = mrtd
            self.firmware = firmware
            self.createdAt = createdAt
            self.ownerUID = ownerUID
            self.ending = ending
            self.numa = numa
            self.lastWill = lastWill
        }

        public init(from decoder: any Decoder) throws {
            let fields = try decoder.container(keyedBy: CodingKeys.self)
            name = try fields.decode(String.self, forKey: .name)
            id = try fields.decode(String.self, forKey: .id)
            state = try fields.decode(HolderInterface.State.self, forKey: .state)
            reason = try fields.decodeIfPresent(String.self, forKey: .reason)
            backend = try fields.decode(Backend.self, forKey: .backend)
            emulated = try fields.decode(Bool.self, forKey: .emulated)
            memoryBytes = try fields.decode(UInt64.self, forKey: .memoryBytes, in: 0...1 << 52)
            privateBytes = try fields.decode(UInt64.self, forKey: .privateBytes, in: 0...1 << 52)
            sharedBytes = try fields.decode(UInt64.self, forKey: .sharedBytes, in: 0...1 << 52)
            convertingBytes = try fields.decode(UInt64.self, forKey: .convertingBytes, in: 0...1 << 52)
            residentPrivateBytes = try fields.decodeIfPresent(
                UInt64.self, forKey: .residentPrivateBytes, in: 0...1 << 52)
            residentSharedBytes = try fields.decodeIfPresent(UInt64.self, forKey: .residentSharedBytes, in: 0...1 << 52)
            vcpus = try fields.decode(Int.self, forKey: .vcpus, in: 0...1 << 16)
            keyID = try fields.decodeIfPresent(UInt16.self, forKey: .keyID)
            pid = try fields.decode(Int32.self, forKey: .pid)
            mrtd = try fields.decodeIfPresent(String.self, forKey: .mrtd)
            firmware = try fields.decodeIfPresent(String.self, forKey: .firmware)
            createdAt = try fields.decode(String.self, forKey: .createdAt)
            ownerUID = try fields.decode(UInt32.self, forKey: .ownerUID)
            ending = try fields.decodeIfPresent(Progress.self, forKey: .ending)
            numa = try fields.decodeIfPresent(NUMAPlacement.self, forKey: .numa)
            lastWill = try fields.decodeIfPresent(LastWillState.self, forKey: .lastWill)
        }

        enum CodingKeys: String, CodingKey {
            case name
            case id
            case state
            case reason
            case backend
            case emulated
            case memoryBytes = "memory_bytes"
            case privateBytes = "private_bytes"
            case sharedBytes = "shared_bytes"
            case convertingBytes = "converting_bytes"
            case residentPrivateBytes = "resident_private_bytes"
            case residentSharedBytes = "resident_shared_bytes"
            case vcpus
            case keyID = "key_id"
            case pid
            case mrtd
            case firmware
            case createdAt = "created_at"
            case ownerUID = "owner_uid"
            case ending
            case numa
            case lastWill = "last_will"
        }
    }

    /// A file that holds a part of guest memory; its descriptor comes with the reply at the same place in the order.
    public struct BackingFile: Codable, Hashable, Sendable {
        public var kind: MemorySide
        public var gpa: UInt64
        public var bytes: UInt64
        public var inode: UInt64

        public init(kind: MemorySide, gpa: UInt64, bytes: UInt64, inode: UInt64) {
            self.kind = kind
            self.gpa = gpa
            self.bytes = bytes
            self.inode = inode
        }

        public init(from decoder: any Decoder) throws {
            let fields = try decoder.container(keyedBy: CodingKeys.self)
            kind = try fields.decode(MemorySide.self, forKey: .kind)
            gpa = try fields.decode(UInt64.self, forKey: .gpa, in: 0...1 << 52)
            bytes = try fields.decode(UInt64.self, forKey: .bytes, in: 0...1 << 52)
            inode = try fields.decode(UInt64.self, forKey: .inode)
        }

        enum CodingKeys: String, CodingKey {
            case kind
            case gpa
            case bytes
            case inode
        }
    }

    /// Builds the TD. The image's descriptor comes with the call as its only file descriptor when the request has
    /// firmware.
    public enum Build: ControlMethod {
        public static let method = "io.tdxd.Holder.Build"
        public static let streams = true

        public struct Parameters: Codable, Hashable, Sendable {
            public var request: CreateRequest
            public var reservation: Reservation
            /// The host's settings; null for the holder's own.
            public var settings: HolderSettings?

            public init(request: CreateRequest, reservation: Reservation, settings: HolderSettings? = nil) {
                self.request = request
                self.reservation = reservation
                self.settings = settings
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var progress: Progress?
            /// In the last reply.
            public var description: Description?
            /// In the last reply: the backing files, as GetBacking returns them. In this order they come as file
            /// descriptors, and after them the one that GetFigures returns.
            public var files: [BackingFile]?

            public init(progress: Progress? = nil, description: Description? = nil, files: [BackingFile]? = nil) {
                self.progress = progress
                self.description = description
                self.files = files
            }
        }
    }

    public enum Describe: ControlMethod {
        public static let method = "io.tdxd.Holder.Describe"
        public static let streams = false
        public typealias Parameters = NoParameters

        public struct Reply: Codable, Hashable, Sendable {
            public var description: Description

            public init(description: Description) {
                self.description = description
            }
        }
    }

    /// As in io.tdxd.Manager.
    public enum Convert: ControlMethod {
        public static let method = "io.tdxd.Holder.Convert"
        public static let streams = true

        public struct Parameters: Codable, Hashable, Sendable {
            public var gpa: PageAddress
            public var bytes: PageSpan
            public var to: MemorySide

            public init(gpa: PageAddress, bytes: PageSpan, to: MemorySide) {
                self.gpa = gpa
                self.bytes = bytes
                self.to = to
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var changedBytes: UInt64
            public var discardedBytes: UInt64
            public var milliseconds: Double
            /// In every reply but the last, whose figures are those so far.
            public var progress: Progress?

            public init(changedBytes: UInt64, discardedBytes: UInt64, milliseconds: Double, progress: Progress? = nil) {
                self.changedBytes = changedBytes
                self.discardedBytes = discardedBytes
                self.milliseconds = milliseconds
                self.progress = progress
            }

            public init(from decoder: any Decoder) throws {
                let fields = try decoder.container(keyedBy: CodingKeys.self)
                changedBytes = try fields.decode(UInt64.self, forKey: .changedBytes, in: 0...1 << 60)
                discardedBytes = try fields.decode(UInt64.self, forKey: .discardedBytes, in: 0...1 << 60)
                milliseconds = try fields.decode(Double.self, forKey: .milliseconds)
                progress = try fields.decodeIfPresent(Progress.self, forKey: .progress)
            }

            enum CodingKeys: String, CodingKey {
                case changedBytes = "changed_bytes"
                case discardedBytes = "discarded_bytes"
                case milliseconds
                case progress
            }
        }
    }

    public enum Map: ControlMethod {
        public static let method = "io.tdxd.Holder.Map"
        public static let streams = false
        public typealias Parameters = NoParameters

        public struct Reply: Codable, Hashable, Sendable {
            public var runs: [MemoryRun]

            public init(runs: [MemoryRun]) {
                self.runs = runs
            }
        }
    }

    /// As in io.tdxd.Manager.
    public enum MapChanges: ControlMethod {
        public static let method = "io.tdxd.Holder.MapChanges"
        public static let streams = false

        public struct Parameters: Codable, Hashable, Sendable {
            public var since: ChangeNumber?
            public var waitMilliseconds: ChangeWait?

            public init(since: ChangeNumber? = nil, waitMilliseconds: ChangeWait? = nil) {
                self.since = since
                self.waitMilliseconds = waitMilliseconds
            }

            enum CodingKeys: String, CodingKey {
                case since
                case waitMilliseconds = "wait_ms"
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var sequence: Int64
            public var snapshot: Bool
            public var runs: [MemoryRun]

            public init(sequence: Int64, snapshot: Bool, runs: [MemoryRun]) {
                self.sequence = sequence
                self.snapshot = snapshot
                self.runs = runs
            }

            public init(from decoder: any Decoder) throws {
                let fields = try decoder.container(keyedBy: CodingKeys.self)
                sequence = try fields.decode(Int64.self, forKey: .sequence, in: 0...1 << 62)
                snapshot = try fields.decode(Bool.self, forKey: .snapshot)
                runs = try fields.decode([MemoryRun].self, forKey: .runs)
            }

            enum CodingKeys: String, CodingKey {
                case sequence
                case snapshot
                case runs
            }
        }
    }

    /// As in io.tdxd.Manager.
    public enum Conversions: ControlMethod {
        public static let method = "io.tdxd.Holder.Conversions"
        public static let streams = false

        public struct Parameters: Codable, Hashable, Sendable {
            public var last: ConversionCount?

            public init(last: ConversionCount? = nil) {
                self.last = last
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            /// To private, to shared.
            public var directions: [ConversionDirection]
            /// The hottest first.
            public var hottest: [ConversionHotBlock]
            public var storm: ConversionStorm
            /// Oldest first.
            public var conversions: [ConversionAccount]

            public init(
                directions: [ConversionDirection], hottest: [ConversionHotBlock], storm: ConversionStorm,
                conversions: [ConversionAccount]
            ) {
                self.directions = directions
                self.hottest = hottest
                self.storm = storm
                self.conversions = conversions
            }
        }
    }

    /// As in io.tdxd.Manager: what the holder would do.
    public enum PlanStop: ControlMethod {
        public static let method = "io.tdxd.Holder.PlanStop"
        public static let streams = false

        public struct Parameters: Codable, Hashable, Sendable {
            /// Null for auto.
            public var policy: StopPolicy?

            public init(policy: StopPolicy? = nil) {
                self.policy = policy
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var path: EndPath
            public var terminate: TerminateAnnouncement
            public var vcpus: Int
            public var residentPrivateBytes: UInt64?
            public var residentSharedBytes: UInt64?
            public var steps: [PlannedStep]
            public var lastWill: LastWillState?

            public init(
                path: EndPath, terminate: TerminateAnnouncement, vcpus: Int, residentPrivateBytes: UInt64? = nil,
                residentSharedBytes: UInt64? = nil, steps: [PlannedStep], lastWill: LastWillState? = nil
            ) {
                self.path = path
                self.terminate = terminate
                self.vcpus = vcpus
                self.residentPrivateBytes = residentPrivateBytes
                self.residentSharedBytes = residentSharedBytes
                self.steps = steps
                self.lastWill = lastWill
            }

            public init(from decoder: any Decoder) throws {
                let fields = try decoder.container(keyedBy: CodingKeys.self)
                path = try fields.decode(EndPath.self, forKey: .path)
                terminate = try fields.decode(TerminateAnnouncement.self, forKey: .terminate)
                vcpus = try fields.decode(Int.self, forKey: .vcpus, in: 0...1 << 16)
                residentPrivateBytes = try fields.decodeIfPresent(
                    UInt64.self, forKey: .residentPrivateBytes, in: 0...1 << 52)
                residentSharedBytes = try fields.decodeIfPresent(
                    UInt64.self, forKey: .residentSharedBytes, in: 0...1 << 52)
                steps = try fields.decode([PlannedStep].self, forKey: .steps)
                lastWill = try fields.decodeIfPresent(LastWillState.self, forKey: .lastWill)
            }

            enum CodingKeys: String, CodingKey {
                case path
                case terminate
                case vcpus
                case residentPrivateBytes = "resident_private_bytes"
                case residentSharedBytes = "resident_shared_bytes"
                case steps
                case lastWill = "last_will"
            }
        }
    }

    /// As in io.tdxd.Manager.
    public enum Verify: ControlMethod {
        public static let method = "io.tdxd.Holder.Verify"
        public static let streams = false

        public struct Parameters: Codable, Hashable, Sendable {
            public var reclaim: Bool

            public init(reclaim: Bool) {
                self.reclaim = reclaim
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var checkedBytes: UInt64
            /// What was found, and with reclaim freed.
            public var wastedBytes: UInt64
            /// In ascending order.
            public var ranges: [DoubleResidency]
            public var milliseconds: Double

            public init(checkedBytes: UInt64, wastedBytes: UInt64, ranges: [DoubleResidency], milliseconds: Double) {
                self.checkedBytes = checkedBytes
                self.wastedBytes = wastedBytes
                self.ranges = ranges
                self.milliseconds = milliseconds
            }

            public init(from decoder: any Decoder) throws {
                let fields = try decoder.container(keyedBy: CodingKeys.self)
                checkedBytes = try fields.decode(UInt64.self, forKey: .checkedBytes, in: 0...1 << 52)
                wastedBytes = try fields.decode(UInt64.self, forKey: .wastedBytes, in: 0...1 << 52)
                ranges = try fields.decode([DoubleResidency].self, forKey: .ranges)
                milliseconds = try fields.decode(Double.self, forKey: .milliseconds)
            }

            enum CodingKeys: String, CodingKey {
                case checkedBytes = "checked_bytes"
                case wastedBytes = "wasted_bytes"
                case ranges
                case milliseconds
            }
        }
    }

    /// The backing files, in this order as file descriptors with the reply.
    public enum GetBacking: ControlMethod {
        public static let method = "io.tdxd.Holder.GetBacking"
        public static let streams = false
        public typealias Parameters = NoParameters

        public struct Reply: Codable, Hashable, Sendable {
            public var files: [BackingFile]

            public init(files: [BackingFile]) {
                self.files = files
            }
        }
    }

    /// A file descriptor with the reply: a page of shared memory that holds the number of pages in each state (shared,
    /// private, converting_to_private, converting_to_shared), current at every moment.
    public enum GetFigures: ControlMethod {
        public static let method = "io.tdxd.Holder.GetFigures"
        public static let streams = false
        public typealias Parameters = NoParameters
        public typealias Reply = NoParameters
    }

    /// A file descriptor with the reply: a sealed file of the ranges that are private or in transition, as of one
    /// moment. Each range is two numbers in base 128, the lowest digit first, every digit but the last with the bit
    /// 0x80: the pages of 4 KiB between the end of the former range and this one, and 4 x pages + state (1 private, 2
    /// converting to private, 3 converting to shared). Ranges ascend.
    public enum GetPrivateRanges: ControlMethod {
        public static let method = "io.tdxd.Holder.GetPrivateRanges"
        public static let streams = false
        public typealias Parameters = NoParameters

        public struct Reply: Codable, Hashable, Sendable {
            /// Of the last change of the map that the ranges contain.
            public var sequence: Int64

            public init(sequence: Int64) {
                self.sequence = sequence
            }

            public init(from decoder: any Decoder) throws {
                let fields = try decoder.container(keyedBy: CodingKeys.self)
                sequence = try fields.decode(Int64.self, forKey: .sequence, in: 0...1 << 62)
            }

            enum CodingKeys: String, CodingKey {
                case sequence
            }
        }
    }

    /// Quiesce, terminate, release and close; the process exits after the last reply.
    public enum Stop: ControlMethod {
        public static let method = "io.tdxd.Holder.Stop"
        public static let streams = true

        public struct Parameters: Codable, Hashable, Sendable {
            /// As in io.tdxd.Manager; null for auto.
            public var policy: StopPolicy?
            /// The memory is kept until Reclaim, and the process with it.
            public var hold: Bool?

            public init(policy: StopPolicy? = nil, hold: Bool? = nil) {
                self.policy = policy
                self.hold = hold
            }
        }

        public struct Reply: Codable, Hashable, Sendable {
            public var progress: Progress?
            public var phases: [TeardownPhase]?
            /// The holder's own part.
            public var proofs: [TeardownProof]?
            public var path: EndPath?
            public var releasedBytes: UInt64?
            /// All that went wrong; null from an older holder.
            public var failures: [EndFailure]?
            /// The same in words.
            public var failure: String?
            /// What the module answered to what failed, in hexadecimal.
            public var tdxStatus: String?
            /// A page could not be taken from the TD; what is left of its memory stays with the process, which goes on
            /// until SIGTERM. A Reclaim then answers the same again and changes nothing.
            public var withheld: Bool?

            public init(
                progress: Progress? = nil, phases: [TeardownPhase]? = nil, proofs: [TeardownProof]? = nil,
                path: EndPath? = nil, releasedBytes: UInt64? = nil, failures: [EndFailure]? = nil,
                failure: String? = nil, tdxStatus: String? = nil, withheld: Bool? = nil
            ) {
                self.progress = progress
                self.phases = phases
                self.proofs = proofs
                self.path = path
                self.releasedBytes = releasedBytes
                self.failures = failures
                self.failure = failure
                self.tdxStatus = tdxStatus
                self.withheld = withheld
            }

            public init(from decoder: any Decoder) throws {
                let fields = try decoder.container(keyedBy: CodingKeys.self)
                progress = try fields.decodeIfPresent(Progress.self, forKey: .progress)
                phases = try fields.decodeIfPresent([TeardownPhase].self, forKey: .phases)
                proofs = try fields.decodeIfPresent([TeardownProof].self, forKey: .proofs)
                path = try fields.decodeIfPresent(EndPath.self, forKey: .path)
                releasedBytes = try fields.decodeIfPresent(UInt64.self, forKey: .releasedBytes, in: 0...1 << 52)
                failures = try fields.decodeIfPresent([EndFailure].self, forKey: .failures)
                failure = try fields.decodeIfPresent(String.self, forKey: .failure)
                tdxStatus = try fields.decodeIfPresent(String.self, forKey: .tdxStatus)
                withheld = try fields.decodeIfPresent(Bool.self, forKey: .withheld)
            }

            enum CodingKeys: String, CodingKey {
                case progress
                case phases
                case proofs
                case path
                case releasedBytes = "released_bytes"
                case failures
                case failure
                case tdxStatus = "tdx_status"
                case withheld
            }
        }
    }

    /// Release and close what a Stop with hold has left; the process exits after the last reply. phases are those of
    /// the Stop, too.
    public enum Reclaim: ControlMethod {
        public static let method = "io.tdxd.Holder.Reclaim"
        public static let streams = true

        public struct Parameters: Codable, Hashable, Sendable {
            /// Null for as fast as it goes.
            public var bytesPerSecond: ReleaseRate?
            /// 2 MiB to 64 MiB, a multiple of 2 MiB; null for the holder's own.
            public var chunkBytes: ReleaseChunk?

            public init(bytesPerSecond: ReleaseRate? = nil, chunkBytes: ReleaseChunk? = nil) {
                self.bytesPerSecond = bytesPerSecond
                self.chunkBytes = chunkBytes
            }

            enum CodingKeys: String, CodingKey {
                case bytesPerSecond = "bytes_per_second"
                case chunkBytes = "chunk_bytes"
            }
        }
        public typealias Reply = Stop.Reply
    }

    /// Changes the pace of a Reclaim that is under way.
    public enum SetPace: ControlMethod {
        public static let method = "io.tdxd.Holder.SetPace"
        public static let streams = false

        public struct Parameters: Codable, Hashable, Sendable {
            /// Null for as fast as it goes.
            public var bytesPerSecond: ReleaseRate?

            public init(bytesPerSecond: ReleaseRate? = nil) {
                self.bytesPerSecond = bytesPerSecond
            }

            enum CodingKeys: String, CodingKey {
                case bytesPerSecond = "bytes_per_second"
            }
        }
        public typealias Reply = NoParameters
    }
}

extension EmulationSettings {
    /// What an emulated kernel makes of KVM_TDX_TERMINATE_VM.
    public enum Terminate: String, Codable, Hashable, Sendable, CaseIterable {
        case announced
        case unannounced
        case absent
    }
}

extension EmulationSettings {
    /// The phase of the end at whose beginning the holder stops itself.
    public enum Pause: String, Codable, Hashable, Sendable, CaseIterable {
        case quiesce
        case terminate
        case release
        case close
    }
}

extension HolderInterface {
    /// halted: it runs no more and was terminated where the kernel can; its memory is still there.
    public enum State: String, Codable, Hashable, Sendable, CaseIterable {
        case empty
        case building
        case runnable
        case stopping
        case halted
        case released
        case failed
    }
}
