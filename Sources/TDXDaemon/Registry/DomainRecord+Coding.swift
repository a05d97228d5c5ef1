internal import FoundationEssentials
internal import LinuxSystem

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

    /// Reads the record in a holder's directory; nil when there is none that can be understood.
    static func read(in directory: String) -> DomainRecord? {
        guard let bytes = try? DurableFile.read(path: directory + "/" + Places.record) else { return nil }
        return try? DomainRecord(decoding: bytes)
    }
}
