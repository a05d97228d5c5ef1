internal import KVM
internal import SystemPackage
public import TDXStatusCodes

/// The kernel could not take a page from a TD. Neither punching nor closing reports it: KVM stops the VM for good (KVM_BUG_ON)
/// and frees the page all the same, whatever the module makes of it. Source: reference/kvm.md §4.5.
public struct RemovalFailure: Hashable, Sendable {
    /// What went wrong, in words.
    public var reason: String
    /// What the module answered; nil where only the kernel's log has it.
    public var status: TDXStatus?

    public init(reason: String, status: TDXStatus?) {
        self.reason = reason
        self.status = status
    }
}

/// Finds out, while memory is given back, whether a page could not be taken from the TD.
///
/// A VM that lived when the release began and is dead after a punch has met a KVM_BUG_ON. One that was terminated before is
/// dead to every call, so a kernel leaves no way to ask there but its log; an emulated one is asked itself.
struct RemovalWatch: Sendable {
    private let machine: any KVMVirtualMachine
    private let hasLived: Bool
    private let emulated: @Sendable () -> RemovalFailure?

    /// Looks at the VM for the first time.
    /// - Parameter emulated: the first failure that an emulated kernel knows of.
    init(_ machine: any KVMVirtualMachine, emulated: @escaping @Sendable () -> RemovalFailure?) {
        self.machine = machine
        self.emulated = emulated
        hasLived = (try? machine.check(.guestMemfdFlags)) != nil
    }

    /// The failure, once there has been one. Costs a harmless ioctl.
    func failure() -> RemovalFailure? {
        if let known = emulated() { return known }
        // Dead is for good: a refusal that passes was none.
        guard hasLived, Self.death(of: machine) != nil, let death = Self.death(of: machine) else { return nil }
        return RemovalFailure(
            reason: "a page could not be taken from the TD, and KVM has stopped the VM for good: \(death)",
            status: death.status)
    }

    /// Every ioctl on a VM that is dead is EIO.
    private static func death(of machine: any KVMVirtualMachine) -> KVMError? {
        do throws(KVMError) {
            _ = try machine.check(.guestMemfdFlags)
            return nil
        } catch {
            return error.errno == .ioError ? error : nil
        }
    }
}
