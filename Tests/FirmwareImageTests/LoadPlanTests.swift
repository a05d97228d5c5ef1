import FirmwareImage
import Hashing
import MemoryUnits
import Testing

@Suite struct `A load plan` {
    private func plan(
        _ synthetic: SyntheticImage = SyntheticImage(), memory: ByteCount = .gibibytes(1)
    ) throws(FirmwareError) -> LoadPlan {
        let image = try TDVFImage(synthetic.bytes)
        return try LoadPlan(image: image, layout: GuestMemoryLayout(memory: memory, firmware: image.size))
    }

    @Test func `follows the order of the metadata`() throws {
        let plan = try plan()
        #expect(plan.runs.map(\.range.start.rawValue) == [0xffff_e000, 0xffff_d000, 0x80_9000, 0x80_0000])
        #expect(plan.runs.map(\.isMeasured) == [true, false, false, false])
        #expect(plan.addedSize == ByteCount(0x8000) && plan.measuredSize == ByteCount(0x2000))
        #expect(plan.initialRCX == 0x80_9000)
        #expect(plan.augmented.isEmpty)
    }

    @Test func `loads the image's bytes, the hand-off block, and zeroes`() throws {
        let synthetic = SyntheticImage()
        let plan = try plan(synthetic)
        #expect(contents(plan.runs[0]) == Array(synthetic.bytes[0x1000..<0x3000]))
        #expect(contents(plan.runs[1]) == Array(synthetic.bytes[0..<0x1000]))
        let block = try #require(plan.handOffBlock)
        #expect(contents(plan.runs[2]) == block.bytes + [UInt8](repeating: 0, count: 0x2000 - block.bytes.count))
        #expect(contents(plan.runs[3]) == [UInt8](repeating: 0, count: 0x3000))
        #expect(block.memory.filter(\.isAccepted).map(\.range) == [range(0x80_0000, 0x3000), range(0x80_9000, 0x2000)])
    }

    @Test func `fills a section that is larger than its data with zeroes, at every offset`() throws {
        var synthetic = SyntheticImage()
        synthetic.sections[1] = .init(dataOffset: 0x100, rawSize: 0x801, address: 0x10_0000, size: 0x2000, type: 1)
        let run = try plan(synthetic).runs[1]
        let expected = Array(synthetic.bytes[0x100..<0x901]) + [UInt8](repeating: 0, count: 0x2000 - 0x801)
        for offset in stride(from: 0, through: 0x2000, by: 0x7f) {
            for length in [0, 1, 0x100, 0x1000] where offset + length <= 0x2000 {
                var part = [UInt8](repeating: 0xee, count: length)
                part.withUnsafeMutableBytes { run.copyBytes(from: ByteCount(UInt64(offset)), into: $0) }
                #expect(part == Array(expected[offset..<offset + length]), "\(length) B at \(offset)")
            }
        }
    }

    @Test func `leaves augmented sections to the guest`() throws {
        var synthetic = SyntheticImage()
        synthetic.sections[3] = .init(address: 0x80_0000, size: 0x3000, type: 4, attributes: 2)
        let plan = try plan(synthetic)
        #expect(plan.runs.map(\.section.kind) == [.bfv, .cfv, .tdHOB])
        #expect(plan.augmented == [range(0x80_0000, 0x3000)])
        #expect(plan.handOffBlock?.memory.filter(\.isAccepted).map(\.range) == [range(0x80_9000, 0x2000)])
    }

    @Test func `of an image without a hand-off block gives the guest none`() throws {
        var synthetic = SyntheticImage()
        synthetic.sections.remove(at: 2)
        let plan = try plan(synthetic)
        #expect(plan.handOffBlock == nil && plan.initialRCX == 0)
    }

    @Test(
        arguments: [
            Damage("temporary memory in the firmware", .outsideMemory) {
                $0.sections[1].address = 0x10_0000
                $0.sections[3] = .init(address: 0xffff_d000, size: 0x1000, type: 3)
            },
            Damage("a hand-off block in the device hole", .outsideMemory) { $0.sections[2].address = 0xc000_0000 },
            Damage("a section across the end of low RAM", .outsideMemory) { $0.sections[3].address = 0x3fff_f000 },
            Damage("variables above the guest's memory", .outsideMemory) { $0.sections[1].address = 1 << 40 },
            Damage("code across two regions", .outsideMemory) { $0.sections[0].size = 0x3000 },
            Damage("a payload that the image does not carry", .unsupported) { $0.sections[3].type = 5 },
        ])
    func `refuses`(damage: Damage) {
        var synthetic = SyntheticImage()
        damage.apply(&synthetic)
        let error = #expect(throws: FirmwareError.self) { try plan(synthetic) }
        #expect(error?.reason == damage.reason, "\(damage.what)")
    }

    @Test func `refuses a guest too small for the firmware's memory`() {
        let error = #expect(throws: FirmwareError.self) { try plan(memory: .mebibytes(8)) }
        #expect(error?.reason == .outsideMemory)
    }

    @Test func `measures each page's addition and, where asked, its contents at once`() throws {
        var synthetic = SyntheticImage()
        synthetic.sections = [
            .init(dataOffset: 0x2000, rawSize: 0x1000, address: 0xffff_f000, size: 0x1000, type: 0, attributes: 1),
            .init(address: 0, size: 0x2000, type: 3),
        ]
        var stream: [UInt8] = []
        try plan(synthetic).replayMeasurement { stream += $0 }
        let page = Array(synthetic.bytes[0x2000...])
        var expected = record("MEM.PAGE.ADD", 0xffff_f000)
        for chunk in 0..<16 {
            expected += record("MR.EXTEND", 0xffff_f000 + UInt64(chunk) * 256) + page[chunk * 256..<chunk * 256 + 256]
        }
        expected += record("MEM.PAGE.ADD", 0) + record("MEM.PAGE.ADD", 0x1000)
        #expect(stream == expected)
    }

    @Test func `that is empty measures nothing`() {
        var digest = SHA384()
        LoadPlan.empty.replayMeasurement { digest.update(bufferPointer: $0) }
        #expect(
            hexadecimal(digest.finalize())
                == "38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b")
    }

    private func contents(_ run: LoadPlan.Run) -> [UInt8] {
        var bytes = [UInt8](repeating: 0xee, count: Int(run.range.size.rawValue))
        bytes.withUnsafeMutableBytes { run.copyBytes(from: .zero, into: $0) }
        return bytes
    }

    private func record(_ name: String, _ address: UInt64) -> [UInt8] {
        let text = Array(name.utf8)
        return text + [UInt8](repeating: 0, count: 16 - text.count) + littleEndian(address)
            + [UInt8](repeating: 0, count: 104)
    }
}

func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
}
