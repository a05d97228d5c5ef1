internal import FirmwareImage
internal import MemoryUnits

extension FuzzTarget {
    /// First byte: the guest's memory in units of 16 MiB + 4 KiB; then the image. What is accepted lies in the guest's
    /// memory, does not overlap, and its hand-off block reports all RAM once.
    static let firmware = FuzzTarget(name: "firmware") { bytes in
        var reader = InputReader(bytes)
        let memory = ByteCount(UInt64(reader.byte()) << 24 + pageSize)
        do throws(FirmwareError) {
            let image = try TDVFImage(Array(reader.rest))
            check(image)
            let layout = try GuestMemoryLayout(memory: memory, firmware: image.size)
            check(try LoadPlan(image: image, layout: layout), layout)
        } catch {
            hold(!error.field.isEmpty && !error.limit.isEmpty, "a refusal that names nothing: \(error)")
        }
    }

    private static func check(_ image: TDVFImage) {
        for section in image.sections {
            hold(section.memory.isPageAligned && !section.memory.isEmpty, "\(section.label) is empty or misaligned")
            hold(section.rawData.upperBound <= image.bytes.count, "\(section.label) reaches beyond the image")
            hold(UInt64(section.rawData.count) <= section.memory.size.rawValue, "\(section.label) does not fit")
            for other in image.sections where other.index < section.index {
                hold(!other.memory.overlaps(section.memory), "\(section.label) overlaps \(other.label)")
            }
        }
    }

    private static func check(_ plan: LoadPlan, _ layout: GuestMemoryLayout) {
        for run in plan.runs {
            hold(layout.region(containing: run.range) != nil, "\(run.section.label) lies outside of memory")
            hold(UInt64(run.content.count) <= run.range.size.rawValue, "\(run.section.label) carries too much")
        }
        for range in plan.augmented {
            hold(layout.region(containing: range)?.kind.isRAM != nil, "\(range) lies outside of memory")
        }
        if let block = plan.handOffBlock {
            var reported = ByteCount.zero
            var end = GuestPhysicalAddress(0)
            for run in block.memory {
                hold(end <= run.range.start, "the hand-off block reports \(run.range) twice")
                end = run.range.end
                reported += run.range.size
            }
            hold(reported == layout.memory, "the hand-off block reports \(reported) of \(layout.memory)")
        }
        // Bounded: an image may have any amount of memory added.
        guard plan.addedSize <= .kibibytes(256) else { return }
        var hashed: UInt64 = 0
        plan.replayMeasurement { hashed += UInt64($0.count) }
        let expected = plan.addedSize.pages.rawValue * 128 + plan.measuredSize.pages.rawValue * 16 * (128 + 256)
        hold(hashed == expected, "\(hashed) B are measured, not \(expected)")
    }
}
