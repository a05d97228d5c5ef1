internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// MEM.RD (reference §1.5): eight bytes of a debug trust domain's memory.
    func memRd(_ r: inout Registers) -> TDXStatus { debugAccess(&r, .memRd, value: nil) }

    /// MEM.WR (reference §1.5): writes eight bytes; R8 becomes what they were.
    func memWr(_ r: inout Registers) -> TDXStatus { debugAccess(&r, .memWr, value: r.r8) }

    private func debugAccess(_ r: inout Registers, _ leaf: SeamcallLeaf, value: UInt64?) -> TDXStatus {
        let (gpa, root) = (r.rcx, r.rdx)
        r.rcx = 0
        r.rdx = 0
        r.r8 = 0
        var access: TDAccess?
        let status = open(root, .rdx, for: leaf, .treeShared, into: &access)
        guard let access else { return status }
        defer { access.release() }
        guard access.state.isDebug else { return .tdNonDebug }
        if gpa & 7 != 0 { return .operandInvalid.with(.rcx) }
        if isTreeBusy(access) { return .operandBusy.with(.septTree) }
        guard gpa >> 52 == 0, isPrivate(gpa, access) else { return .operandInvalid.with(.rcx) }
        let found = walk(access.td, gpa, to: 0, root: access.state.rootLevel)
        guard Entry.isLeaf(found.raw), found.raw & Entry.rights != 0 else {
            report(found, &r)
            return .eptEntryNotPresent.with(.rcx)
        }
        guard let entry = lockEntry(found, &r) else { return .operandBusy.with(.rcx) }
        defer { entry.release(found.raw) }
        guard permissions.allows(leaf, on: decode(found.raw)) else {
            return wrongState(found, &r)
        }
        let mask = (UInt64(1) << (12 + 9 * found.level)) - 1
        let address = Entry.address(found.raw) & ~mask | gpa & mask
        r.r8 = memory.word(address, key: access.key)
        if let value {
            withUnsafeBytes(of: value.littleEndian) {
                memory.write(HostPhysicalAddress(address), key: access.key, from: $0)
            }
        }
        return .success
    }
}
