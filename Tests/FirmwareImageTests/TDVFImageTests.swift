import FirmwareImage
import MemoryUnits
import TestSupport
import Testing

@Suite struct `A TDVF image` {
    @Test func `is read through its GUIDed table`() throws {
        let image = try TDVFImage(SyntheticImage().bytes)
        #expect(image.locator == .guidedTable)
        #expect(image.metadataOffset == 0x2000)
        #expect(image.sections.map(\.kind) == [.bfv, .cfv, .tdHOB, .tempMem])
        #expect(image.sections[0].rawData == 0x1000..<0x3000)
        #expect(image.sections[0].memory.start == GuestPhysicalAddress(0xffff_e000))
        #expect(image.sections[0].isMeasured && !image.sections[1].isMeasured)
        #expect(image.handOffBlockSection?.memory.size == ByteCount(0x2000))
    }

    @Test func `without a table is read through the legacy pointer`() throws {
        var synthetic = SyntheticImage()
        synthetic.hasTable = false
        synthetic.legacyPointer = 0x2000
        let image = try TDVFImage(synthetic.bytes)
        #expect(image.locator == .legacyPointer)
        #expect(image.sections.count == 4)
    }

    @Test func `whose table lacks the metadata's entry is read through the legacy pointer`() throws {
        var synthetic = SyntheticImage()
        synthetic.legacyPointer = 0x2000
        var bytes = synthetic.bytes
        let start = bytes.count - 32 - 18 - 22 - 18 - 16
        #expect(Array(bytes[start..<start + 16]) == SyntheticImage.metadataEntry)
        bytes[start] ^= 0xff
        #expect(try TDVFImage(bytes).locator == .legacyPointer)
    }

    @Test func `that is none is told apart from one that is broken`() {
        #expect(refusal(of: [UInt8](repeating: 0xff, count: 0x4000))?.reason == .metadataNotFound)
        #expect(refusal(of: [UInt8](repeating: 0, count: 0x1000))?.reason == .metadataNotFound)
    }

    @Test(arguments: [0, 1, 4095, 4097, 0x3001, (64 << 20) + 4096])
    func `of a size that no flash has is refused`(size: Int) {
        #expect(refusal(of: [UInt8](repeating: 0, count: size))?.reason == .imageSize)
    }

    @Test(
        arguments: [
            Damage("an entry of length 0", .guidedTable) { $0.otherEntries[0].length = 0 },
            Damage("an entry shorter than its header", .guidedTable) { $0.otherEntries[1].length = 17 },
            Damage("an entry longer than the table", .guidedTable) { $0.otherEntries[0].length = 0xffff },
            Damage("a table longer than the image", .guidedTable) { $0.tableLength = 0xffff },
            Damage("a table shorter than its footer", .guidedTable) { $0.tableLength = 17 },
            Damage("a table that ends inside an entry", .guidedTable) { $0.tableLength = 18 + 22 + 3 },
            Damage("an entry of 2 bytes for the metadata", .guidedTable) { $0.metadataEntryData = [0, 1] },
            Damage("metadata beyond the image's start", .metadataLength) {
                $0.metadataEntryData = littleEndian(0x3001 as UInt32)
            },
            Damage("metadata at the image's very end", .metadataLength) {
                $0.metadataEntryData = littleEndian(15 as UInt32)
            },
            Damage("a wrong signature", .signature) { $0.signature = Array("TDVX".utf8) },
            Damage("version 0", .version) { $0.version = 0 },
            Damage("version 2", .version) { $0.version = 2 },
            Damage("no sections", .sectionCount) { $0.sections = [] },
            Damage("65 sections", .sectionCount) { $0.sectionCount = 65 },
            Damage("4 billion sections", .sectionCount) { $0.sectionCount = .max },
            Damage("a length that lacks a section", .metadataLength) { $0.length = 16 + 32 * 3 },
            Damage("a length of 0", .metadataLength) { $0.length = 0 },
            Damage("more sections than fit", .metadataLength) {
                $0.metadataOffset = 0x3000 - 16
                $0.hasTable = false
                $0.legacyPointer = 0x2ff0
            },
            Damage("an unknown type", .sectionType) { $0.sections[3].type = 7 },
            Damage("a reserved attribute", .sectionAttributes) { $0.sections[3].attributes = 4 },
            Damage("a section both augmented and measured", .sectionAttributes) { $0.sections[3].attributes = 3 },
            Damage("an augmented section with contents", .sectionAttributes) { $0.sections[1].attributes = 2 },
            Damage("an augmented hand-off block", .sectionAttributes) { $0.sections[2].attributes = 2 },
            Damage("data beyond the image", .sectionOutsideImage) { $0.sections[0].dataOffset = 0x1001 },
            Damage("data that wraps 32 bits", .sectionOutsideImage) { $0.sections[0].dataOffset = .max },
            Damage("an unaligned address", .misaligned) { $0.sections[3].address = 0x80_0800 },
            Damage("an unaligned size", .misaligned) { $0.sections[3].size = 0x1001 },
            Damage("an empty section", .sectionSize) { $0.sections[3].size = 0 },
            Damage("less memory than data", .sectionSize) { $0.sections[0].size = 0x1000 },
            Damage("a BFV without data", .sectionSize) { $0.sections[0].rawSize = 0 },
            Damage("a CFV without data", .sectionSize) { $0.sections[1].rawSize = 0 },
            Damage("a TD_HOB with data", .sectionSize) { $0.sections[2].rawSize = 16 },
            Damage("a TempMem with data", .sectionSize) { $0.sections[3].rawSize = 16 },
            Damage("memory that wraps", .wraps) { $0.sections[3].address = 0xffff_ffff_ffff_f000 },
            Damage("sections that overlap by a page", .overlap) { $0.sections[3].address = 0x80_a000 },
            Damage("no BFV", .missingBFV) { $0.sections[0].type = 5 },
            Damage("no BFV at the reset vector", .missingBFV) { $0.sections[0].address = 0xfff0_0000 },
            Damage("two hand-off blocks", .duplicateSection) { $0.sections[3].type = 2 },
        ])
    func `is refused for`(damage: Damage) {
        var synthetic = SyntheticImage()
        damage.apply(&synthetic)
        let error = refusal(of: synthetic.bytes)
        #expect(error?.reason == damage.reason, "\(damage.what): \(error.map(String.init(describing:)) ?? "accepted")")
        #expect(error.map { !$0.field.isEmpty && !$0.value.isEmpty && !$0.limit.isEmpty } == true)
    }

    @Test func `cut short anywhere gives a typed error`() {
        let whole = SyntheticImage().bytes
        for length in 0..<whole.count {
            #expect(refusal(of: Array(whole[..<length])) != nil, "prefix of \(length) B")
        }
        // A prefix that is filled up to a whole page again has lost its table.
        for length in stride(from: 0, to: whole.count - 32, by: 1) {
            let refilled = whole[..<length] + [UInt8](repeating: 0, count: whole.count - length)
            let reason = refusal(of: Array(refilled))?.reason
            #expect(reason == .metadataNotFound, "prefix of \(length) B, refilled: \(String(describing: reason))")
        }
    }

    @Test func `that lost its beginning is refused`() {
        let whole = SyntheticImage().bytes
        for lost in 1...whole.count {
            #expect(refusal(of: Array(whole[lost...])) != nil, "without its first \(lost) B")
        }
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func `with random damage is accepted or refused but never traps`(round: UInt64) {
        let seed = 0x7d7f_0000 + round
        print("seed \(seed)")
        var random = SeededRandom(seed: seed)
        let whole = SyntheticImage().bytes
        // Damage is aimed at the metadata and at the table; the rest is contents.
        let targets = Array(0x2000..<0x2000 + 16 + 4 * 32) + Array(whole.count - 32 - 18 - 22 - 18 - 22..<whole.count)
        var refused = 0
        for _ in 0..<5000 {
            var bytes = whole
            for _ in 0...Int.random(in: 0..<6, using: &random) {
                let position = targets.randomElement(using: &random)!
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[position] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                default: bytes[position] = [0, 0xff, 0x7f, 0x80].randomElement(using: &random)!
                }
            }
            do throws(FirmwareError) {
                let image = try TDVFImage(bytes)
                for memory in [ByteCount.mebibytes(16), .gibibytes(4)] {
                    let plan = try LoadPlan(
                        image: image, layout: GuestMemoryLayout(memory: memory, firmware: image.size))
                    #expect(plan.addedSize.rawValue <= memory.rawValue + image.size.rawValue)
                    if plan.addedSize <= .mebibytes(1) { plan.replayMeasurement { _ in } }
                }
            } catch {
                refused += 1
            }
        }
        #expect(refused > 1000, "the damage hardly ever hit anything: \(refused) of 5000 refused")
    }
}

/// The error that the bytes are refused with; nil when they are accepted.
func refusal(of bytes: [UInt8]) -> FirmwareError? {
    do throws(FirmwareError) {
        _ = try TDVFImage(bytes)
        return nil
    } catch {
        return error
    }
}
