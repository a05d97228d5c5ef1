public import ControlInterface
public import KVM

/// What an administrator asked for: a backend by name, or the best that the host offers.
public enum BackendChoice: Hashable, Sendable {
    case auto
    case fixed(Backend)

    /// Reads `auto`, `tdx`, `software_protected`, `guest_memfd` or `memfd`; a hyphen counts as an underscore. Nil otherwise.
    public init?(parsing text: String) {
        let name = text.lowercased().split(separator: "-", omittingEmptySubsequences: false).joined(separator: "_")
        if name == "auto" {
            self = .auto
        } else if let backend = Backend(rawValue: name) {
            self = .fixed(backend)
        } else {
            return nil
        }
    }
}

/// What of a host decides between backends, as probed.
public struct BackendOffers: Hashable, Sendable {
    /// Why /dev/kvm cannot be used, such as "/dev/kvm: EACCES"; nil when it can.
    public var obstacle: String?
    /// KVM_CAP_VM_TYPES: bit n is VM type n.
    public var vmTypes: UInt32
    /// KVM_CAP_GUEST_MEMFD
    public var hasGuestMemory: Bool
    /// KVM_CAP_GUEST_MEMFD_FLAGS, as asked of a VM of the default type.
    public var guestMemoryFlags: GuestMemoryFlags
    /// Whether a software-protected VM offers KVM_MEMORY_ATTRIBUTE_PRIVATE.
    public var hasPrivateAttribute: Bool

    public init(
        obstacle: String? = nil, vmTypes: UInt32, hasGuestMemory: Bool, guestMemoryFlags: GuestMemoryFlags,
        hasPrivateAttribute: Bool
    ) {
        self.obstacle = obstacle
        self.vmTypes = vmTypes
        self.hasGuestMemory = hasGuestMemory
        self.guestMemoryFlags = guestMemoryFlags
        self.hasPrivateAttribute = hasPrivateAttribute
    }

    func offers(_ type: VMType) -> Bool { type.rawValue < 32 && vmTypes & (1 << type.rawValue) != 0 }
}

/// A backend and the reason for it, in words for people.
public struct ChosenBackend: Hashable, Sendable {
    public var backend: Backend
    public var reason: String

    public init(backend: Backend, reason: String) {
        self.backend = backend
        self.reason = reason
    }
}

/// The backend that was asked for by name is not to be had on this host.
public struct BackendUnavailable: Error, Hashable, Sendable, CustomStringConvertible {
    public var backend: Backend
    public var reason: String

    public var description: String { "backend \(backend.rawValue) is not available here: \(reason)" }
}

/// Chooses a backend from what was probed. Pure: it reads nothing itself.
public enum BackendChooser {
    /// - Throws: `BackendUnavailable` when a backend was asked for by name that the host does not offer. There is no
    ///   silent fall-back: whoever named a backend wants that one or none.
    public static func choose(_ choice: BackendChoice, from offers: BackendOffers) throws(BackendUnavailable)
        -> ChosenBackend
    {
        switch choice {
        case .fixed(let backend):
            if let obstacle = obstacle(to: backend, offers) {
                throw BackendUnavailable(backend: backend, reason: obstacle)
            }
            return ChosenBackend(backend: backend, reason: "asked for by name; \(ground(for: backend, offers))")
        case .auto:
            var refusals: [String] = []
            for backend in Backend.preference {
                guard let obstacle = obstacle(to: backend, offers) else {
                    let others = refusals.isEmpty ? "" : " (" + refusals.joined(separator: "; ") + ")"
                    return ChosenBackend(backend: backend, reason: ground(for: backend, offers) + others)
                }
                refusals.append("no \(backend.rawValue): \(obstacle)")
            }
            preconditionFailure("memfd needs nothing")
        }
    }

    /// What keeps a backend from being used; nil when nothing does.
    static func obstacle(to backend: Backend, _ offers: BackendOffers) -> String? {
        if backend != .memfd, let obstacle = offers.obstacle { return obstacle }
        switch backend {
        case .tdx:
            return offers.offers(.tdx) ? nil : "KVM offers no VM of type 5"
        case .softwareProtected:
            if !offers.offers(.softwareProtected) { return "KVM offers no VM of type 1" }
            if !offers.hasGuestMemory { return "KVM has no guest_memfd" }
            return offers.hasPrivateAttribute ? nil : "a VM of type 1 has no private memory attribute"
        case .guestMemfd:
            if !offers.hasGuestMemory { return "KVM has no guest_memfd" }
            if !offers.guestMemoryFlags.isSuperset(of: [.mmap, .initShared]) {
                return "guest_memfd lacks the flags MMAP and INIT_SHARED"
            }
            return nil
        case .memfd:
            return nil
        }
    }

    private static func ground(for backend: Backend, _ offers: BackendOffers) -> String {
        switch backend {
        case .tdx: "KVM offers VMs of type 5 (TDX)"
        case .softwareProtected: "KVM offers VMs of type 1 with private memory attributes; the TDX module is emulated"
        case .guestMemfd: "KVM offers guest_memfd with MMAP and INIT_SHARED; the TDX module is emulated"
        case .memfd: "sealed memfds need no KVM; the TDX module is emulated"
        }
    }
}
