import FirmwareImage
import MemoryUnits
import Testing

@Suite struct `The TD hand-off block` {
    @Test func `is byte for byte the list of the specification`() throws {
        let block = try TDHandOffBlock(
            location: range(0x3000, 0x1000), ram: [range(0, 0x10000)], accepted: [range(0x3000, 0x1000)])
        let expected: [[UInt8]] = [
            [1, 0, 56, 0, 0, 0, 0, 0],  // PHIT: type 1, 56 bytes
            [9, 0, 0, 0],  // version
            [0, 0, 0, 0],  // boot mode
            [UInt8](repeating: 0, count: 32),  // memory and free memory, top and bottom
            [0xd0, 0x30, 0, 0, 0, 0, 0, 0],  // end of list: 0x3000 + 56 + 3 × 48 + 8
            resource(type: 7, start: 0, length: 0x3000),
            resource(type: 0, start: 0x3000, length: 0x1000),
            resource(type: 7, start: 0x4000, length: 0xc000),
            [0xff, 0xff, 8, 0, 0, 0, 0, 0],  // end of list
        ]
        #expect(block.bytes == expected.flatMap { $0 })
        #expect(block.address == GuestPhysicalAddress(0x3000))
    }

    @Test func `reports every byte of RAM once, and touching sections apart`() throws {
        let ram = [range(0, 0x10_0000), range(4 << 30, 0x10_0000)]
        let accepted = [
            range(0x5000, 0x1000), range(0, 0x2000), range(0x6000, 0x1000), range(0xf_f000, 0x1000),
            range(4 << 30, 0x10_0000),
        ]
        let block = try TDHandOffBlock(location: range(0x5000, 0x1000), ram: ram, accepted: accepted)
        #expect(
            block.memory == [
                .init(range: range(0, 0x2000), isAccepted: true),
                .init(range: range(0x2000, 0x3000), isAccepted: false),
                .init(range: range(0x5000, 0x1000), isAccepted: true),
                .init(range: range(0x6000, 0x1000), isAccepted: true),
                .init(range: range(0x7000, 0xf_8000), isAccepted: false),
                .init(range: range(0xf_f000, 0x1000), isAccepted: true),
                .init(range: range(4 << 30, 0x10_0000), isAccepted: true),
            ])
    }

    @Test func `that does not fit its section is refused, and one that just fits is not`() throws {
        // 4,096 bytes hold the frame of 64 bytes and 84 descriptors of 48: exactly.
        let sections = (0..<42).map { range(UInt64($0) * 0x2000, 0x1000) }
        let ram = range(0, 42 * 0x2000)
        let fits = try TDHandOffBlock(location: sections[0], ram: [ram], accepted: sections)
        #expect(fits.bytes.count == 4096)
        let error = #expect(throws: FirmwareError.self) {
            try TDHandOffBlock(location: sections[0], ram: [ram, range(4 << 30, 0x1000)], accepted: sections)
        }
        #expect(error?.reason == .handOffBlockOverflow)
    }

    @Test func `refuses added memory outside RAM or counted twice`() {
        let ram = [range(0, 0x10000)]
        let outside = #expect(throws: FirmwareError.self) {
            try TDHandOffBlock(location: range(0, 0x1000), ram: ram, accepted: [range(0xf000, 0x2000)])
        }
        #expect(outside?.reason == .outsideMemory)
        let twice = #expect(throws: FirmwareError.self) {
            try TDHandOffBlock(
                location: range(0, 0x1000), ram: ram, accepted: [range(0, 0x3000), range(0x2000, 0x1000)])
        }
        #expect(twice?.reason == .overlap)
    }

    private func resource(type: UInt32, start: UInt64, length: UInt64) -> [UInt8] {
        [3, 0, 48, 0, 0, 0, 0, 0] + [UInt8](repeating: 0, count: 16) + littleEndian(type) + [7, 0, 0, 0]
            + littleEndian(start) + littleEndian(length)
    }
}
