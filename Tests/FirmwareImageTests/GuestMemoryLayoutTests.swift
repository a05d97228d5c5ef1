import FirmwareImage
import MemoryUnits
import Testing

@Suite struct `A guest's memory` {
    @Test(
        arguments: [
            (ByteCount(4096), [range(0, 4096)]),
            (.gibibytes(1), [range(0, 1 << 30)]),
            (ByteCount(0xb000_0000 - 4096), [range(0, 0xb000_0000 - 4096)]),
            (ByteCount(0xb000_0000), [range(0, 2 << 30), range(4 << 30, 0xb000_0000 - (2 << 30))]),
            (.gibibytes(4), [range(0, 2 << 30), range(4 << 30, 2 << 30)]),
            (.gibibytes(64), [range(0, 2 << 30), range(4 << 30, 62 << 30)]),
        ] as [(ByteCount, [GuestPhysicalRange])])
    func `is split as QEMU's q35 machine splits it`(memory: ByteCount, ram: [GuestPhysicalRange]) throws {
        let layout = try GuestMemoryLayout(memory: memory)
        #expect(layout.ram == ram)
        #expect(layout.backedSize == memory)
        #expect(layout.regions.allSatisfy { $0.kind.isRAM })
    }

    @Test func `has the firmware just below 4 GiB`() throws {
        let layout = try GuestMemoryLayout(memory: .gibibytes(4), firmware: .mebibytes(2))
        #expect(layout.regions.map(\.kind) == [.lowRAM, .firmware, .highRAM])
        #expect(layout.regions[1].range == range(0xffe0_0000, 2 << 20))
        #expect(layout.backedSize == .gibibytes(4) + .mebibytes(2))
        #expect(layout.region(containing: range(0x7fff_f000, 0x2000)) == nil)
        #expect(layout.region(containing: range(0xffff_f000, 0x2000)) == nil)
        #expect(layout.region(containing: range(0xffff_f000, 0x1000))?.kind == .firmware)
    }

    @Test func `never reaches the firmware or the shared bit`() throws {
        let largest = (UInt64(1) << 47) - (2 << 30)
        for memory in [4096, 0xb000_0000 - 4096, 0xb000_0000, 4 << 30, largest] as [UInt64] {
            let layout = try GuestMemoryLayout(memory: ByteCount(memory), firmware: .mebibytes(64))
            for (a, b) in zip(layout.regions, layout.regions.dropFirst()) { #expect(a.range.end <= b.range.start) }
            #expect(layout.regions.last!.range.end <= GuestMemoryLayout.addressLimit)
        }
        #expect(throws: FirmwareError.self) { try GuestMemoryLayout(memory: ByteCount(largest + 4096)) }
    }

    @Test(arguments: [0, 1, 4097, (1 << 47) - (2 << 30) + 4096, UInt64.max, UInt64.max - 4095] as [UInt64])
    func `of an impossible size is refused`(bytes: UInt64) {
        let error = #expect(throws: FirmwareError.self) { try GuestMemoryLayout(memory: ByteCount(bytes)) }
        #expect(error?.reason == .memorySize)
    }

    @Test(arguments: [1, 4097, (64 << 20) + 4096, UInt64.max] as [UInt64])
    func `with an impossible firmware is refused`(bytes: UInt64) {
        let error = #expect(throws: FirmwareError.self) {
            try GuestMemoryLayout(memory: .gibibytes(1), firmware: ByteCount(bytes))
        }
        #expect(error?.reason == .imageSize)
    }
}

func range(_ start: UInt64, _ size: UInt64) -> GuestPhysicalRange {
    GuestPhysicalRange(start: GuestPhysicalAddress(start), size: ByteCount(size))
}
