internal import ControlInterface
internal import LinuxSystem

/// What the kernel's misc controller says of TDX key ids: one unit is charged to the group of a TD's creator from INIT_VM until
/// the VM object is destroyed. Source: reference/kvm.md §4.6.
enum KeyCharge: Hashable, Sendable {
    /// Units that are charged to the TD's own control group.
    case group(UInt64)
    /// Units of the whole host, other users of TDX among them: no proof, but what there is to be seen.
    case host(UInt64)
    /// Nothing can be seen; why.
    case unavailable(String)

    static let resource = "tdx"

    /// - Parameters:
    ///   - backend: emulated key ids are the software module's, and charged to nobody.
    ///   - group: the TD's own group; nil where it has none.
    ///   - root: where control groups are mounted.
    static func read(_ backend: Backend, group: String?, root: String = "/sys/fs/cgroup") -> Self {
        guard !backend.isEmulated else {
            return .unavailable("the key id is emulated, and the kernel's misc controller knows nothing of it")
        }
        if let group, let own = try? MiscResource.current(ofGroup: group), let amount = amount(own) {
            return .group(amount)
        }
        do throws(LinuxError) {
            guard let amount = amount(try MiscResource.current(root: root)) else {
                return .unavailable("misc.current has no line “\(resource)”")
            }
            return .host(amount)
        } catch {
            return .unavailable("\(error)")
        }
    }

    private static func amount(_ resources: [MiscResource]) -> UInt64? {
        resources.first { $0.name == resource }?.amount
    }

    /// A statement of its own only where it is about this TD alone.
    var proof: TeardownProof? {
        guard case .group(let amount) = self else { return nil }
        return TeardownProof(
            name: TeardownProofs.keyUncharged, holds: amount == 0,
            evidence: "misc.current of the TD's control group: \(amount) of resource “\(Self.resource)”")
    }

    /// For the evidence of the key id's return.
    var words: String {
        switch self {
        case .group(let amount): "misc.current of the TD's control group is \(amount)"
        case .host(let amount): "misc.current of the host is \(amount), whoever's they are"
        case .unavailable(let reason): "misc.current is not available: \(reason)"
        }
    }
}
