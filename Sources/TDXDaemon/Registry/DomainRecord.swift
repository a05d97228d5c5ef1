internal import ControlInterface
internal import DomainEnd
internal import FoundationEssentials
internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage
internal import Terms

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
    /// When the process of an attached TD was started, in clock ticks since boot: with its number it identifies the process.
    var holderStart: UInt64?
    /// The threads that were seen to create a VM, as KVM names them when it is destroyed.
    var vmCreators: [Int32] = []
    /// Set once an end has begun: the TD is never offered again.
    var ending: Bool = false
    /// What was asked for when the end began by a Stop.
    var stop: StopRecord?
    /// Why neither its memory nor its key id may be given to another TD; nil in the ordinary case. Only a restart of the
    /// host ends it, and takes this record away.
    var quarantine: String?

    /// Why the record that was here could not be read; this one has what the holder reported. The TD is listed as quarantined until
    /// it is stopped.
    var unreadable: String?

    /// What is known of the end, once there is something: a holder answers once.
    var soFar: EndReport.SoFar?

    /// What the next tdxd must know to go on with a Stop of the former one.
    struct StopRecord: Codable, Hashable, Sendable {
        var policy: String
        /// RFC 3339, UTC.
        var beganAt: String
        /// By the monotonic clock, in nanoseconds: a holder's end is in the same boot as its beginning.
        var beganNanoseconds: UInt64
        /// The memory waits until a client asks for it.
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

    /// The process that holds the TD was not started by tdxd.
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

extension DomainRecord {
    /// The part of the end's machine that the next tdxd must know.
    var endNote: EndNote {
        var note = EndNote()
        note.hasBegun = ending
        note.wasAsked = stop != nil
        note.holdsMemory = stop?.isHeld ?? false
        note.holderDied = soFar?.holderDied ?? false
        note.kept = EndReport(resuming: self).kept
        return note
    }

    /// Takes over what the machine wants to be written, and what is known of the end.
    mutating func set(_ note: EndNote, _ report: EndReport?) {
        ending = note.hasBegun
        guard note.hasBegun else { return stop = nil }
        guard let report else { return }
        soFar = report.soFar
        soFar?.holderDied = note.holderDied
        quarantine = note.kept.isEmpty ? nil : report.quarantine
        guard note.wasAsked else { return stop = nil }
        stop = StopRecord(
            policy: report.policy, beganAt: report.startedAt, beganNanoseconds: report.start.nanoseconds,
            isHeld: note.holdsMemory, bytesPerSecond: report.bytesPerSecond, chunkBytes: report.chunkBytes)
    }

    func encoded() throws -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Array(try encoder.encode(self))
    }

    /// - Throws: when the bytes are no record.
    init(decoding bytes: [UInt8]) throws {
        self = try JSONDecoder().decode(Self.self, from: Data(bytes))
    }

    /// What a holder's directory has for a record.
    enum Found {
        case record(DomainRecord)
        /// There is no such file.
        case missing
        /// The file is not a record of this version.
        case damaged(String)
        /// The file could not be read at this moment.
        case unread(LinuxError)
    }

    /// Reads the record in a holder's directory.
    /// - Parameter id: the TD's, which is the directory's name.
    static func find(in directory: String, id: String) -> Found {
        let bytes: [UInt8]
        do throws(LinuxError) { bytes = try DurableFile.read(path: directory + "/" + Places.record) } catch {
            switch error.errno {
            case .noSuchFileOrDirectory: return .missing
            case .tooManySymbolicLinkLevels, .isDirectory, .fileTooLarge: return .damaged("\(error)")
            default: return .unread(error)
            }
        }
        do {
            let record = try DomainRecord(decoding: bytes)
            guard record.id == id else { return .damaged("it is of the TD \(Refusal.quoting(record.id))") }
            try record.check()
            return .record(record)
        } catch {
            return .damaged(Refusal.quoting("\(error)"))
        }
    }

    /// - Throws: `Refusal` for a value that tdxd never writes.
    private func check() throws {
        func bounded(_ field: String, _ value: UInt64?, _ limit: UInt64) throws(Refusal) {
            guard let value, value > limit else { return }
            throw Refusal(field: field, value: String(value), limit: "at most \(limit)")
        }
        _ = try TrustDomainName(checking: name, in: "name")
        try bounded("memory_bytes", memoryBytes, MemorySize.maximum.rawValue)
        try bounded("firmware_bytes", firmwareBytes, 64 << 20)
        try bounded("so_far.released_bytes", soFar?.releasedBytes, 1 << 53)
        try bounded("so_far.resident_bytes", soFar?.residentBytes, 1 << 53)
        guard (0...4096).contains(vcpus) else {
            throw Refusal(field: "vcpus", value: String(vcpus), limit: "0 to 4096")
        }
        guard backing.count <= 1024, vmCreators.count <= 1 << 16 else {
            throw Refusal(field: "backing", value: String(backing.count), limit: "at most 1024")
        }
    }
}
