internal import ControlInterface
internal import MemoryUnits

/// What tdxd must still know of a TD when both it and the TD's holder have been killed. It lies as `domain.json` in the
/// holder's directory from before the holder is started until the TD's end is proven.
struct DomainRecord: Codable, Hashable, Sendable {
    var name: String
    /// 32 hexadecimal digits.
    var id: String
    var memoryBytes: UInt64
    var vcpus: Int
    var firmware: String?
    /// The image's size: it lies in guest memory beside `memoryBytes`. 0 without one, nil in a record from before it was noted.
    var firmwareBytes: UInt64?
    /// RFC 3339, UTC.
    var createdAt: String
    var ownerUID: UInt32
    /// The reserved key id.
    var keyID: UInt16
    /// Nil until the TD is built.
    var backend: Backend?
    /// Inode numbers of the backing files; empty until the TD is built.
    var backing: [BackingIdentity] = []
    var holderPID: Int32?
    /// Whose process the holder is; nil, in a record from before there were others, for tdxd's own.
    var kind: HolderKind?
    /// When the process of an attached TD was started, in clock ticks since boot: with its number it is no other process.
    var holderStart: UInt64?
    /// The threads that were seen to create a VM, as KVM names them when it is destroyed.
    var vmCreators: [Int32] = []
    /// Set once an end has begun: the TD is never offered again.
    var ending: Bool = false
    /// What was asked for when the end began by a Stop.
    var stop: StopRecord?
    /// Why neither its memory nor its key id may be given to anybody, nil in the ordinary case. Only a restart of the
    /// host ends it, and takes this record away.
    var quarantine: String?

    /// Why the record that was here could not be read; this one has what the holder said. The TD is listed as quarantined until
    /// it is stopped.
    var unreadable: String?

    /// What is known of the end, once there is something: nobody says it twice.
    var soFar: Ending.SoFar?

    /// What the next tdxd must know to go on with a Stop of the former one.
    struct StopRecord: Codable, Hashable, Sendable {
        var policy: String
        /// RFC 3339, UTC.
        var beganAt: String
        /// By the monotonic clock, in nanoseconds: a holder's end is in the same boot as its beginning.
        var beganNanoseconds: UInt64
        /// The memory waits until somebody asks for it.
        var isHeld: Bool
        /// Nil for as fast as it goes.
        var bytesPerSecond: UInt64?
        var chunkBytes: UInt64?

        enum CodingKeys: String, CodingKey {
            case policy
            case beganAt = "began_at"
            case beganNanoseconds = "began_ns"
            case isHeld = "held"
            case bytesPerSecond = "bytes_per_second"
            case chunkBytes = "chunk_bytes"
        }
    }

    /// A backing file as stat(2) names it.
    struct BackingIdentity: Codable, Hashable, Sendable {
        var device: UInt64
        var inode: UInt64
    }

    /// The process that holds the TD is somebody else's.
    var isAttached: Bool { kind == .attached }

    /// RAM and firmware.
    var guestMemory: ByteCount { MemoryDemand.sum([ByteCount(memoryBytes), ByteCount(firmwareBytes ?? 0)]) }

    enum CodingKeys: String, CodingKey {
        case name, id
        case memoryBytes = "memory_bytes"
        case vcpus, firmware
        case firmwareBytes = "firmware_bytes"
        case createdAt = "created_at"
        case ownerUID = "owner_uid"
        case keyID = "key_id"
        case backend, backing
        case holderPID = "holder_pid"
        case kind
        case holderStart = "holder_start"
        case vmCreators = "vm_creators"
        case ending, stop, quarantine, unreadable
        case soFar = "so_far"
    }
}
