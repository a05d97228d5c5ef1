public import MemoryUnits
internal import Synchronization
internal import TDXModule
public import TDXStatusCodes

/// What the emulated host knows of one TD, for evidence. All of it is emulated: it says what the software module and the
/// emulated kernel did, nothing about TDX hardware.
public struct EmulatedInspection: Hashable, Sendable {
    /// Every text made from this value should carry it.
    public static let label = "emulated"

    /// The key id that INIT_VM gave; nil before.
    public var keyID: KeyID?
    /// The module's key table says "FREE", "ASSIGNED", "FLUSHED" or "RESERVED" of that key id; nil before INIT_VM.
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

/// Keeps a TD's evidence when the TD is gone.
final class InspectionRecord: @unchecked Sendable {
    private let lock = Lock()
    // Sound: touched inside `lock` only.
    private var final: EmulatedInspection?
    private weak var machine: TDXMachine?
    private var storedKeyID: KeyID?
    private var storedMeasurement: [UInt8]?

    var keyID: KeyID? {
        get { lock.withLock { storedKeyID } }
        set { lock.withLock { storedKeyID = newValue } }
    }
    var measurement: [UInt8]? {
        get { lock.withLock { storedMeasurement } }
        set { lock.withLock { storedMeasurement = newValue } }
    }

    func attach(_ machine: TDXMachine) { lock.withLock { self.machine = machine } }

    func finish(_ machine: TDXMachine) {
        var last = read(machine)
        last.isDestroyed = true
        lock.withLock {
            final = last
            self.machine = nil
        }
    }

    /// The first KVM_BUG_ON so far, without a look at anything else.
    var bug: EmulatedBug? {
        let (final, machine) = lock.withLock { (self.final, self.machine) }
        return final.map(\.bug) ?? machine?.bug
    }

    var inspection: EmulatedInspection? {
        let (final, machine) = lock.withLock { (self.final, self.machine) }
        return final ?? machine.map(read)
    }

    private func read(_ machine: TDXMachine) -> EmulatedInspection {
        machine.mmuLock.withReadLock {
            let privatePages = machine.mapLock.withLock { machine.mirror.mappedPageCount }
            // CHLDCNT, the module's own account of the TD's pages, does not count the TDR.
            let owned =
                machine.domain.flatMap { machine.host.module.trustDomain($0.tdr) }.map { $0.childCount + 1 } ?? 0
            return EmulatedInspection(
                keyID: keyID, keyState: keyID.flatMap { machine.host.keyStateName(of: $0) }, measurement: measurement,
                seamcalls: machine.counts.byName, privatePages: privatePages,
                controlPages: PageCount(owned - min(owned, privatePages.rawValue)),
                leakedPages: PageCount(machine.leakedPages), isDestroyed: false, bug: machine.bug)
        }
    }
}
