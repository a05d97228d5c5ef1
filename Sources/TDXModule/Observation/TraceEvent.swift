internal import MemoryUnits
internal import Synchronization

/// One call, with everything that is needed to make it again.
public struct TraceEvent: Hashable, Sendable {
    public enum Kind: String, Hashable, Sendable {
        /// `TDXModule.seamcall`.
        case seamcall
        /// `TDXModule.enter`.
        case enter
        /// `TDXModule.exit`.
        case exit
        /// `TDXModule.tdcall`.
        case tdcall
    }

    /// Bytes of memory that the call read and that no earlier call wrote.
    public struct Contents: Hashable, Sendable {
        public var address: UInt64
        public var key: UInt16
        public var bytes: [UInt8]
    }

    public var kind: Kind
    /// The logical processor, for calls of the host.
    public var processor: UInt32 = 0
    /// The vCPU, for exits and calls of the guest.
    public var tdvpr: UInt64 = 0
    /// The exit that was made, or that a call of the guest asked for.
    public var exit: TDExit?
    public var before: Registers
    public var after: Registers
    public var contents: [Contents] = []
    /// Locks that the injector held during the call.
    public var heldLocks: [LockName] = []
    /// Faults that the call met, each with the places that looked for it before: raw value of `Fault`, and number.
    public var faults: [[Int]] = []
}

extension TDXModule {
    /// What a call of the host reads of host memory.
    func hostContents(_ leaf: SeamcallLeaf?, _ r: Registers) -> [TraceEvent.Contents] {
        switch leaf?.row.reads ?? .nothing {
        case .nothing: []
        case .buffer(let place, let bytes): contents(place.value(r), bytes, alignment: UInt64(bytes))
        case .tdmrs: tdmrContents(r)
        }
    }

    /// What SYS.CONFIG reads: the list of pointers, and the TDMR_INFO that each points to.
    private func tdmrContents(_ r: Registers) -> [TraceEvent.Contents] {
        guard (1...64).contains(r.rdx), let list = sharedOperand(r.rcx, alignment: 512) else { return [] }
        var result = contents(r.rcx, 8 * Int(r.rdx), alignment: 512)
        for index in 0..<r.rdx {
            result += contents(memory.word(list.address + 8 * index, key: list.key), 320, alignment: 512)
        }
        return result
    }

    /// What a call of the guest reads of the guest's memory.
    func guestContents(_ r: Registers, _ tdvpr: UInt64) -> [TraceEvent.Contents] {
        guard let (_, td) = insideVCPU(tdvpr), let leaf = TDCallLeaf(rawValue: UInt16(truncatingIfNeeded: r.rax)),
            let reads = leaf.row.reads, case let (gpa, count) = (reads.place.value(r), reads.bytes), gpa & 63 == 0,
            gpa >> 52 == 0,
            gpa & td.pointee.forbiddenGPABits.get() == 0, let (address, key) = translate(gpa, td)
        else { return [] }
        return [
            TraceEvent.Contents(
                address: address, key: key.rawValue, bytes: memory.bytes(address, count: count, key: key))
        ]
    }

    /// A host buffer, aligned to `alignment`; nothing for an operand that the leaf refuses.
    private func contents(_ operand: UInt64, _ count: Int, alignment: UInt64) -> [TraceEvent.Contents] {
        guard let buffer = sharedOperand(operand, alignment: alignment) else { return [] }
        return [
            TraceEvent.Contents(
                address: buffer.address, key: buffer.key.rawValue,
                bytes: memory.bytes(buffer.address, count: count, key: buffer.key))
        ]
    }
}
