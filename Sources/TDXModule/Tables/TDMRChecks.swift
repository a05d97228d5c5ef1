internal import MemoryUnits
internal import TDXStatusCodes

/// The checks that SYS.CONFIG makes on TDMR_INFO structures, in its order (reference §1.7).
struct TDMRChecks {
    struct Refusal: Error {
        var status: TDXStatus
    }

    /// 40 words each: base, size, PAMT base and size for 1 GiB, 2 MiB, 4 KiB, then 16 reserved areas.
    var infos: [[UInt64]]
    var convertible: [HostPhysicalRange]
    var usesDynamicPAMT: Bool

    func run() throws(Refusal) -> [TDMR] {
        var result: [TDMR] = []
        for index in infos.indices { result.append(try tdmr(index, after: result.last)) }
        for index in result.indices { try placement(index, result) }
        return result
    }

    private func tdmr(_ index: Int, after previous: TDMR?) throws(Refusal) -> TDMR {
        let info = infos[index]
        let number = UInt8(index)
        let (base, size) = (info[0], info[1])
        let gibibyte: UInt64 = 1 << 30
        guard size > 0, base % gibibyte == 0, size % gibibyte == 0, base <= UInt64.max - size, base + size <= 1 << 52
        else { throw Refusal(status: .invalidTDMR.with(bytes: number)) }
        if let previous, base < previous.end { throw Refusal(status: .nonOrderedTDMR.with(bytes: number)) }
        var tdmr = TDMR(base: base, size: size, next: base)
        var behind: UInt64 = 0
        var isEnded = false
        for area in 0..<16 {
            let (offset, length) = (info[8 + 2 * area], info[9 + 2 * area])
            if length == 0 {
                isEnded = true
                continue
            }
            guard !isEnded, offset % 4096 == 0, length % 4096 == 0, offset <= size, length <= size - offset else {
                throw Refusal(status: .invalidReservedInTDMR.with(bytes: number, UInt8(area)))
            }
            guard offset >= behind else {
                throw Refusal(status: .nonOrderedReservedInTDMR.with(bytes: number, UInt8(area)))
            }
            behind = offset + length
            tdmr.reserved.append(base + offset..<base + offset + length)
        }
        for (code, word) in [(2, 2), (1, 4), (0, 6)] {
            let (pamtBase, pamtSize) = (info[word], info[word + 1])
            guard pamtBase % 4096 == 0, pamtSize % 4096 == 0, pamtBase <= UInt64.max - pamtSize,
                pamtSize >= Self.pamtSize(of: size, code, usesDynamicPAMT: usesDynamicPAMT)
            else { throw Refusal(status: .invalidPAMT.with(bytes: number, UInt8(code))) }
            tdmr.pamtBase[code] = pamtBase
            tdmr.pamtSize[code] = pamtSize
        }
        return tdmr
    }

    private func placement(_ index: Int, _ all: [TDMR]) throws(Refusal) {
        let tdmr = all[index]
        let number = UInt8(index)
        for code in [2, 1, 0] {
            let area = tdmr.pamtBase[code]..<tdmr.pamtBase[code] + tdmr.pamtSize[code]
            for (other, theirs) in all.enumerated() {
                let span = theirs.base..<theirs.end
                if area.overlaps(span), !isCovered(area.clamped(to: span), by: theirs.reserved) {
                    throw Refusal(status: .pamtOverlap.with(bytes: number, UInt8(code), UInt8(other)))
                }
                for otherCode in 0...2 where other < index || (other == index && otherCode > code) {
                    let otherArea =
                        theirs.pamtBase[otherCode]..<theirs.pamtBase[otherCode] + theirs.pamtSize[otherCode]
                    if area.overlaps(otherArea) {
                        throw Refusal(status: .pamtOverlap.with(bytes: number, UInt8(code), UInt8(other)))
                    }
                }
            }
            if !isCovered(area, by: convertibleRanges) {
                throw Refusal(status: .pamtOutsideCMRs.with(bytes: number, UInt8(code)))
            }
        }
        if !isCovered(tdmr.base..<tdmr.end, by: convertibleRanges + tdmr.reserved) {
            throw Refusal(status: .tdmrOutsideCMRs.with(bytes: number))
        }
    }

    private var convertibleRanges: [Range<UInt64>] { convertible.map { $0.start.rawValue..<$0.end.rawValue } }

    /// Whether the ranges together contain all of `range`.
    private func isCovered(_ range: Range<UInt64>, by ranges: [Range<UInt64>]) -> Bool {
        var at = range.lowerBound
        for part in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if part.lowerBound > at { break }
            at = max(at, part.upperBound)
        }
        return at >= range.upperBound
    }

    /// Bytes of a PAMT area, rounded up to 4 KiB (reference §5.2 and §5.4).
    static func pamtSize(of size: UInt64, _ code: Int, usesDynamicPAMT: Bool) -> UInt64 {
        let bytes: UInt64
        switch code {
        case 0: bytes = usesDynamicPAMT ? size / 4096 / 8 : size / 4096 * 16
        case 1: bytes = size >> 21 * 16
        default: bytes = size >> 30 * 16
        }
        return (bytes + 4095) & ~4095
    }
}
