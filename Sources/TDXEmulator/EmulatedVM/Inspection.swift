public import MemoryUnits
public import TDXStatusCodes

/// What the emulated host knows of one TD, for evidence. All of it is emulated: it states what the software module and the
/// emulated kernel did, nothing about TDX hardware.
public struct EmulatedInspection: Hashable, Sendable {
    /// Every text made from this value should carry it.
    public static let label = "emulated"

    /// The key id that INIT_VM gave; nil before.
    public var keyID: KeyID?
    /// That key id's state in the module's key table: "FREE", "ASSIGNED", "FLUSHED" or "RESERVED"; nil before INIT_VM.
    public var keyState: String?
    /// 48 bytes, from the module; nil before FINALIZE_VM.
    public var measurement: [UInt8]?
    /// SEAMCALLs made for this TD, by the module's name for the leaf.
    public var seamcalls: [String: UInt64]
    /// Private pages that the TD owns now.
    public var privatePages: PageCount
    /// Other pages that the TD owns now by the module's own account: TDR, control and Secure-EPT pages.
    public var controlPages: PageCount
    /// Pages that the kernel gave up because the module would not release the key.
    public var leakedPages: PageCount
    /// The VM was destroyed: its last reference went.
    public var isDestroyed: Bool
    /// The first KVM_BUG_ON; nil when there was none.
    public var bug: EmulatedBug?
}

/// A KVM_BUG_ON of the emulated kernel.
public struct EmulatedBug: Hashable, Sendable {
    /// What it was at, in words.
    public var text: String
    /// What the software module answered; nil where it was not asked.
    public var status: TDXStatus?
}
