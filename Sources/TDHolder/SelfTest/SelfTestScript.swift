internal import ConfidentialMemory
internal import KVM
internal import LinuxSystem
internal import MemoryUnits

/// What the host does at each of the guest's reports, and what it concludes. One step of the self-test per conclusion.
struct SelfTestScript {
    /// In the order in which they come. A guest that does not get so far leaves the rest out of reach.
    static let steps = [
        "private_write", "private_read_back", "convert_to_shared", "zero_after_shared", "shared_write", "guest_detects",
        "convert_to_private", "zero_after_private", "private_rewrite", "zero_after_discard", "halt",
    ]

    struct Conclusion {
        var name: String
        var holds: Bool
        var evidence: String
    }

    let rig: SelfTestRig
    /// What the last conversion found.
    private var conversion: (holds: Bool, evidence: String) = (false, "the guest asked for no conversion")

    init(_ rig: SelfTestRig) { self.rig = rig }

    private var dataStart: UInt64 { SelfTestRig.data.start.rawValue }
    private var dataSize: ByteCount { SelfTestRig.data.size }
    private var dwords: UInt64 { dataSize.rawValue / 4 }

    /// Answers a report by OUT.
    func conclude(port: UInt16, value: UInt32) throws(SelfTestFailure) -> Conclusion {
        typealias Port = SelfTestGuest.Port
        switch port {
        case Port.wroteA: return try privateWrite("private_write", seed: SelfTestGuest.guestSeedA)
        case Port.checkedA:
            return guestCount("private_read_back", value, expected: 0, "that differ from what it wrote")
        case Port.askedShared: return asked("convert_to_shared", value)
        case Port.zeroAfterShared:
            return guestCount("zero_after_shared", value, expected: 0, "in the new shared pages that are not zero")
        case Port.wroteB: return sharedWrite()
        case Port.checkedC:
            return guestCount(
                "guest_detects", value, expected: 1,
                "that differ from the host's pattern, of which the host made one wrong on purpose")
        case Port.askedPrivate: return asked("convert_to_private", value)
        case Port.zeroAfterPrivate:
            return guestCount("zero_after_private", value, expected: 0, "in the new private pages that are not zero")
        case Port.wroteD: return try rewriteAndDiscard()
        case Port.zeroAfterDiscard:
            return guestCount("zero_after_discard", value, expected: 0, "in the discarded pages that are not zero")
        default:
            throw SelfTestFailure("the guest wrote 0x\(String(value, radix: 16)) to port 0x\(String(port, radix: 16))")
        }
    }

    /// Carries out a request of the guest's. The answer is KVM_HC_MAP_GPA_RANGE's: 0, or EINVAL as a positive number.
    mutating func convert(address: UInt64, pages: UInt64, attributes: UInt64) -> UInt64 {
        let size = PageCount(pages).bytes
        guard let range = GuestPhysicalRange(validating: GuestPhysicalAddress(address), size: size) else { return 22 }
        let side: MemorySide = attributes & SelfTestGuest.encryptedBit != 0 ? .private : .shared
        do {
            let result = try rig.memory.convert(range, to: side)
            let left = try rig.residency()
            // The side that was left is empty. The host has looked at the shared side, so that may hold zeroes.
            let old = rig.sides == .inPlace ? left?.total : side == .shared ? left?.private : left?.shared
            conversion = (
                (old ?? .zero) == .zero && result.changed == range.size && range == SelfTestRig.data,
                "\(rig.transport) asked for \(range) to \(side.rawValue): \(result.changed.rawValue) bytes changed, "
                    + "\(result.discarded.rawValue) discarded; " + Self.counted(left)
            )
            return 0
        } catch {
            conversion = (false, "\(error)")
            return 22
        }
    }

    private func privateWrite(_ name: String, seed: UInt32) throws(SelfTestFailure) -> Conclusion {
        let resident = try rig.residency()
        let differing = SelfTestPattern.mismatches(in: rig.view, at: dataStart, seed: seed)
        let isThere = resident.map { $0.private == dataSize } ?? true
        switch rig.sides {
        case .inPlace:
            return Conclusion(
                name: name, holds: isThere && differing == 0,
                evidence: Self.counted(resident)
                    + "; \(differing) of \(dwords) dwords differ from the guest's pattern in the host's mapping")
        case .apart:
            let visible = dwords - UInt64(differing)
            return Conclusion(
                name: name, holds: isThere && visible == 0,
                evidence: Self.counted(resident)
                    + "; \(visible) of \(dwords) dwords of the guest's pattern can be seen in the host's mapping")
        }
    }

    private static func counted(_ residency: Residency?) -> String {
        guard let residency else { return "residency is not known: no cachestat(2)" }
        return "cachestat counts \(residency.private.rawValue) private and \(residency.shared.rawValue) shared bytes"
    }

    private func sharedWrite() -> Conclusion {
        let differing = SelfTestPattern.mismatches(in: rig.view, at: dataStart, seed: SelfTestGuest.guestSeedB)
        SelfTestPattern.write(to: rig.view, at: dataStart, seed: SelfTestGuest.hostSeedC)
        let wrong = rig.view.count / 2 & ~3
        rig.view[wrong] ^= 0x80
        return Conclusion(
            name: "shared_write", holds: differing == 0,
            evidence: "\(differing) of \(dwords) dwords differ from the guest's pattern in the host's mapping; "
                + "the host has overwritten them")
    }

    private func rewriteAndDiscard() throws(SelfTestFailure) -> Conclusion {
        var conclusion = try privateWrite("private_rewrite", seed: SelfTestGuest.guestSeedD)
        do {
            let discarded = try rig.memory.discard(SelfTestRig.data)
            let left = try rig.residency()
            if let left { conclusion.holds = conclusion.holds && discarded >= dataSize && left.total == .zero }
            conclusion.evidence += "; \(discarded.rawValue) bytes discarded, then " + Self.counted(left)
        } catch {
            conclusion.holds = false
            conclusion.evidence += "; discarding failed: \(error)"
        }
        return conclusion
    }

    private func asked(_ name: String, _ value: UInt32) -> Conclusion {
        Conclusion(
            name: name, holds: value == 0 && conversion.holds,
            evidence: conversion.evidence + "; the guest was answered \(value)")
    }

    private func guestCount(_ name: String, _ value: UInt32, expected: UInt32, _ what: String) -> Conclusion {
        Conclusion(
            name: name, holds: value == expected, evidence: "the guest counts \(value) of \(dwords) dwords \(what)")
    }
}
