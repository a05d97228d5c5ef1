import ConfidentialMemory
import FirmwareImage
import MemoryUnits

/// A TDVF image of three pages: two of code that are measured, one of variables; a hand-off block and scratch memory in
/// low RAM, and a section that the guest is to accept. Its metadata is found by the legacy pointer.
enum SmallFirmware {
    static let size = 0x3000
    static let handOffBlock: UInt64 = 0x9000

    static func image() throws -> TDVFImage {
        var bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ ($0 >> 8)) }
        let metadata = 0x100
        let sections: [[UInt32]] = [
            // Data offset, raw size, address low and high, size low and high, type, attributes.
            [0x1000, 0x2000, 0xFFFF_E000, 0, 0x2000, 0, 0, 1],
            [0, 0x1000, 0xFFFF_D000, 0, 0x1000, 0, 1, 0],
            [0, 0, UInt32(handOffBlock), 0, 0x2000, 0, 2, 0],
            [0, 0, 0x0, 0, 0x3000, 0, 3, 0],
            [0, 0, 0x20_0000, 0, 0x1000, 0, 4, 2],
        ]
        var words: [UInt32] = [0x4656_4454, UInt32(16 + 32 * sections.count), 1, UInt32(sections.count)]
        words += sections.flatMap { $0 }
        put(words, at: metadata, in: &bytes)
        put([UInt32(metadata)], at: size - 32, in: &bytes)
        put([0, 0, 0, 0], at: size - 48, in: &bytes)
        return try TDVFImage(bytes)
    }

    private static func put(_ words: [UInt32], at offset: Int, in bytes: inout [UInt8]) {
        for (index, word) in words.enumerated() {
            for byte in 0..<4 {
                bytes[offset + 4 * index + byte] = UInt8(truncatingIfNeeded: word >> UInt32(8 * byte))
            }
        }
    }

    /// A TD of 8 MiB with this firmware.
    static func configuration() throws -> TrustDomainConfiguration {
        let image = try image()
        let layout = try GuestMemoryLayout(memory: .mebibytes(8), firmware: image.size)
        var configuration = TrustDomainConfiguration(
            name: "td", layout: layout, plan: try LoadPlan(image: image, layout: layout), vcpus: 1)
        configuration.shards = ShardPolicy(maximumPerRegion: 2, minimumSize: .mebibytes(4))
        return configuration
    }
}
