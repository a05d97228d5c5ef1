internal import FoundationEssentials
internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage
internal import Terms

extension DomainRecord {
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
        _ = try DomainName(validating: name)
        try bounded("memory_bytes", memoryBytes, CreateOrder.maximumMemory.rawValue)
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
