internal import MemoryUnits
internal import TDXStatusCodes

/// The checks that SYS.CONFIG makes on TDMR_INFO structures, in its order: each TDMR completely before the next is read
/// (reference §1.7).
struct TDMRChecks {
    struct Refusal: Error {
        var status: TDXStatus
        init(_ status: TDXStatus, _ bytes: UInt8...) {
            self.status =
                switch bytes.count {
                case 1: status.with(bytes: bytes[0])
                case 2: status.with(bytes: bytes[0], bytes[1])
                default: status.with(bytes: bytes[0], bytes[1], bytes[2])
                }
        }
    }

    let convertible: [Range<UInt64>]
    let usesDynamicPAMT: Bool
    /// Address bits that hold no key id.
    let addressBits: UInt64
    /// The TDMRs that passed.
    private(set) var accepted: [TDMR] = []

    private static let gibibyte: UInt64 = 1 << 30

    init(_ platform: PlatformDescription, usesDynamicPAMT: Bool) {
        // Neighbouring regions are one.
        var ranges: [Range<UInt64>] = []
        for region in platform.convertibleMemory {
            let range = region.start.rawValue..<region.end.rawValue
            if let last = ranges.last, last.upperBound == range.lowerBound {
                ranges[ranges.count - 1] = last.lowerBound..<range.upperBound
            } else {
                ranges.append(range)
            }
        }
        convertible = ranges
        self.usesDynamicPAMT = usesDynamicPAMT
        addressBits = 52 - UInt64(platform.keyIDBits)
    }

    /// Checks the next TDMR, 40 words: base, size, PAMT base and size for 1 GiB, 2 MiB, 4 KiB, then 16 reserved areas.
    mutating func add(_ info: [UInt64]) throws(Refusal) {
        let number = UInt8(accepted.count)
        let (base, size) = (info[0], info[1])
        guard base <= UInt64.max - size else { throw Refusal(.invalidTDMR, number) }
        if let previous = accepted.last, base < previous.end { throw Refusal(.nonOrderedTDMR, number) }
        guard size > 0, base % Self.gibibyte == 0, size % Self.gibibyte == 0, isAddress(base),
            isAddress(base + size - 1)
        else { throw Refusal(.invalidTDMR, number) }
        var tdmr = TDMR(base: base, size: size, next: base)
        try addReserved(info, number, &tdmr)
        for (code, word) in [(PageSizeCode.huge, 2), (PageSizeCode.large, 4), (PageSizeCode.small, 6)] {
            let (start, length) = (info[word], info[word + 1])
            guard start <= UInt64.max - length, start % 4096 == 0, length % 4096 == 0, isAddress(start),
                isAddress(start &+ length &- 1),
                length >= Self.pamtBytes(of: size, code, usesDynamicPAMT: usesDynamicPAMT)
            else { throw Refusal(.invalidPAMT, number, UInt8(code)) }
            tdmr.pamtBase[code] = start
            tdmr.pamtSize[code] = length
        }
        try checkAreas(tdmr, number)
        try checkOverlap(tdmr, number)
        for code in [PageSizeCode.huge, PageSizeCode.large, PageSizeCode.small] where !isConvertible(tdmr.pamt(code)) {
            throw Refusal(.pamtOutsideCMRs, number, UInt8(code))
        }
        if tdmr.available.contains(where: { !isConvertible($0) }) { throw Refusal(.tdmrOutsideCMRs, number) }
        accepted.append(tdmr)
    }

    private func isAddress(_ value: UInt64) -> Bool { value >> addressBits == 0 }

    private func addReserved(_ info: [UInt64], _ number: UInt8, _ tdmr: inout TDMR) throws(Refusal) {
        let limit = ModuleLimits.reservedAreas
        func area(_ index: Int) -> (offset: UInt64, size: UInt64) { (info[8 + 2 * index], info[9 + 2 * index]) }
        for index in 0..<limit {
            let (offset, size) = area(index)
            let place = UInt8(index)
            if size == 0 {
                // An empty area may only be followed by empty ones.
                if index + 1 < limit, area(index + 1).size != 0 {
                    throw Refusal(.nonOrderedReservedInTDMR, number, place)
                }
                continue
            }
            guard offset <= UInt64.max - size else { throw Refusal(.invalidReservedInTDMR, number, place) }
            if index > 0 {
                let previous = area(index - 1)
                if offset < previous.offset || offset < previous.offset + previous.size {
                    throw Refusal(.nonOrderedReservedInTDMR, number, place)
                }
            }
            guard offset % 4096 == 0, size % 4096 == 0, offset + size <= tdmr.size else {
                throw Refusal(.invalidReservedInTDMR, number, place)
            }
            tdmr.reserved.append(tdmr.base + offset..<tdmr.base + offset + size)
        }
    }

    private static let sizes = [PageSizeCode.small, PageSizeCode.large, PageSizeCode.huge]

    /// PAMT areas may overlap no other PAMT area.
    private func checkAreas(_ tdmr: TDMR, _ number: UInt8) throws(Refusal) {
        for (index, other) in accepted.enumerated() {
            for code in Self.sizes {
                for otherCode in Self.sizes where tdmr.pamt(code).overlaps(other.pamt(otherCode)) {
                    throw Refusal(.pamtOverlap, number, UInt8(code), UInt8(index))
                }
            }
        }
        let pairs = [
            (PageSizeCode.small, PageSizeCode.large), (PageSizeCode.small, PageSizeCode.huge),
            (PageSizeCode.large, PageSizeCode.huge),
        ]
        for (code, other) in pairs where tdmr.pamt(code).overlaps(tdmr.pamt(other)) {
            throw Refusal(.pamtOverlap, number, UInt8(code), number)
        }
    }

    /// PAMT areas may overlap no usable part of a TDMR.
    private func checkOverlap(_ tdmr: TDMR, _ number: UInt8) throws(Refusal) {
        for (index, other) in (accepted + [tdmr]).enumerated() {
            for code in Self.sizes where other.available.contains(where: { $0.overlaps(tdmr.pamt(code)) }) {
                throw Refusal(.pamtOverlap, number, UInt8(code), UInt8(index))
            }
            guard index < accepted.count else { continue }
            for code in Self.sizes where tdmr.available.contains(where: { $0.overlaps(other.pamt(code)) }) {
                throw Refusal(.pamtOverlap, UInt8(index), UInt8(code), number)
            }
        }
    }

    private func isConvertible(_ range: Range<UInt64>) -> Bool {
        convertible.contains { $0.lowerBound <= range.lowerBound && range.upperBound <= $0.upperBound }
    }

    /// Bytes that a PAMT area must have at least (reference §5.2 and §5.4).
    private static func pamtBytes(of size: UInt64, _ code: Int, usesDynamicPAMT: Bool) -> UInt64 {
        let entry = UInt64(ModuleLimits.pamtEntrySize)
        switch code {
        case PageSizeCode.small: return usesDynamicPAMT ? size / 4096 / 8 : size / 4096 * entry
        case PageSizeCode.large: return size >> 21 * entry
        default: return size >> 30 * entry
        }
    }

    /// Bytes of a PAMT area, rounded up to 4 KiB.
    static func pamtSize(of size: UInt64, _ code: Int, usesDynamicPAMT: Bool) -> UInt64 {
        (pamtBytes(of: size, code, usesDynamicPAMT: usesDynamicPAMT) + 4095) & ~4095
    }
}

extension TDMR {
    func pamt(_ code: Int) -> Range<UInt64> { pamtBase[code]..<pamtBase[code] + pamtSize[code] }

    /// The parts between reserved areas.
    var available: [Range<UInt64>] {
        var result: [Range<UInt64>] = []
        var at = base
        for area in reserved {
            if area.lowerBound > at { result.append(at..<area.lowerBound) }
            at = area.upperBound
        }
        if end > at { result.append(at..<end) }
        return result
    }
}
