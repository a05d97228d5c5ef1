public import MemoryUnits
internal import Synchronization

/// A read met a line that is poisoned: on hardware, a machine check (#MC).
public struct MachineCheck: Error, Hashable, Sendable {
    /// The 64-byte line.
    public var line: HostPhysicalAddress
    public init(line: HostPhysicalAddress) { self.line = line }
}

/// Physical memory whose 64-byte lines know whom they belong to, as the TD-owner bit of hardware does (reference §10).
///
/// A line that the module wrote with a private key is a trust domain's. The host then reads zeros from it. A full
/// 64-byte write by the host makes the line the host's again; a smaller one does so too, except on parts with the
/// partial-write erratum (`X86_BUG_TDX_PW_MCE`), where it poisons the line and the next read of it is a machine
/// check.
public final class OwnedLineMemory: PhysicalMemory {
    /// Bit per line of a page.
    private struct Lines: Sendable {
        var owned: UInt64 = 0
        var poisoned: UInt64 = 0
    }

    private struct State: Sendable {
        var pages: [UInt64: Lines] = [:]
        var onPoison: (@Sendable (HostPhysicalAddress) -> Void)?
    }

    private let base: any PhysicalMemory
    private let firstPrivateKey: UInt16
    private let hasErratum: Bool
    private let state = Mutex(State())

    /// - Parameters:
    ///   - base: what holds the bytes.
    ///   - platform: which key ids are private.
    ///   - hasPartialWriteErratum: whether small writes poison.
    public init(over base: any PhysicalMemory, platform: PlatformDescription, hasPartialWriteErratum: Bool) {
        self.base = base
        firstPrivateKey = platform.privateKeyIDs.lowerBound
        hasErratum = hasPartialWriteErratum
    }

    /// Called with each line as it becomes poisoned; `TDXModule.faults.poison` lets the guest meet it.
    public func onPoison(_ body: (@Sendable (HostPhysicalAddress) -> Void)?) { state.withLock { $0.onPoison = body } }

    /// Lines that belong to trust domains, in all pages.
    public var ownedLines: Int { state.withLock { $0.pages.values.reduce(0) { $0 + $1.owned.nonzeroBitCount } } }
    /// Lines that are poisoned.
    public var poisonedLines: Int { state.withLock { $0.pages.values.reduce(0) { $0 + $1.poisoned.nonzeroBitCount } } }

    /// A write by the host with its own key, any number of bytes.
    public func hostWrite(_ bytes: [UInt8], at address: HostPhysicalAddress) {
        var done = 0
        while done < bytes.count {
            let at = address.rawValue + UInt64(done)
            let length = min(bytes.count - done, Int(64 - at % 64))
            if releases(at, isFull: length == 64) {
                base.store(Array(bytes[done..<done + length]), at: at, key: KeyID(0))
            }
            done += length
        }
    }

    /// The reset that the host owes a page on affected parts: 64 direct stores of zeros.
    public func hostReset(_ page: HostPhysicalAddress) {
        hostWrite([UInt8](repeating: 0, count: Int(pageSize)), at: page)
    }

    /// A read by the host with its own key.
    public func hostRead(_ address: HostPhysicalAddress, count: Int) throws(MachineCheck) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let at = address.rawValue + UInt64(bytes.count)
            let length = min(count - bytes.count, Int(64 - at % 64))
            let (lines, bit) = line(at)
            if lines.poisoned & bit != 0 { throw MachineCheck(line: HostPhysicalAddress(at & ~63)) }
            bytes +=
                lines.owned & bit != 0
                ? [UInt8](repeating: 0, count: length) : base.bytes(at, count: length, key: KeyID(0))
        }
        return bytes
    }

    private func line(_ address: UInt64) -> (Lines, UInt64) {
        (state.withLock { $0.pages[address / pageSize] } ?? Lines(), 1 << (address % pageSize / 64))
    }

    /// A line after a write by the host. False when the write poisoned it and left no bytes.
    private func releases(_ address: UInt64, isFull: Bool) -> Bool {
        let bit: UInt64 = 1 << (address % pageSize / 64)
        let poisoned = state.withLock { state -> (@Sendable (HostPhysicalAddress) -> Void)?? in
            guard var lines = state.pages[address / pageSize] else { return .none }
            if hasErratum, !isFull, lines.owned & bit != 0 {
                lines.poisoned |= bit
                state.pages[address / pageSize] = lines
                return .some(state.onPoison)
            }
            lines.owned &= ~bit
            if isFull { lines.poisoned &= ~bit }
            state.pages[address / pageSize] = lines.owned | lines.poisoned == 0 ? nil : lines
            return .none
        }
        guard let poisoned else { return true }
        poisoned?(HostPhysicalAddress(address & ~63))
        return false
    }

    /// Lines after a direct store with a key: whole pages by the module, or whole lines of a smaller write.
    private func stored(_ address: UInt64, _ count: Int, _ key: KeyID) {
        let first = address % pageSize / 64
        let last = (address % pageSize + UInt64(count) - 1) / 64
        var mask: UInt64 = 0
        for line in first...last { mask |= 1 << line }
        state.withLock { state in
            var lines = state.pages[address / pageSize] ?? Lines()
            if key.rawValue >= firstPrivateKey { lines.owned |= mask } else { lines.owned &= ~mask }
            lines.poisoned &= ~mask
            state.pages[address / pageSize] = lines.owned | lines.poisoned == 0 ? nil : lines
        }
    }

    public func read(_ address: HostPhysicalAddress, key: KeyID, into buffer: UnsafeMutableRawBufferPointer) {
        base.read(address, key: key, into: buffer)
    }

    public func write(_ address: HostPhysicalAddress, key: KeyID, from buffer: UnsafeRawBufferPointer) {
        base.write(address, key: key, from: buffer)
        if !buffer.isEmpty { stored(address.rawValue, buffer.count, key) }
    }

    public func zeroPage(_ page: HostPhysicalAddress, key: KeyID) {
        base.zeroPage(page, key: key)
        stored(page.rawValue, Int(pageSize), key)
    }

    public func copyPage(
        from source: HostPhysicalAddress, sourceKey: KeyID, to destination: HostPhysicalAddress, key: KeyID
    ) {
        base.copyPage(from: source, sourceKey: sourceKey, to: destination, key: key)
        stored(destination.rawValue, Int(pageSize), key)
    }

    public func writeBack(_ page: HostPhysicalAddress, key: KeyID) { base.writeBack(page, key: key) }
}
