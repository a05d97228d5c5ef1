/// What stands for a guest's kernel: a program for each vCPU of a TD.
///
/// The program runs on a thread of its own, one step at a time and only while KVM_RUN is under way: each call on the
/// processor is something the guest does (a TDCALL, a memory access), and between two of them it may be interrupted,
/// as a guest may at any instruction. A program that never calls the processor cannot be interrupted.
public protocol GuestAgent: Sendable {
    /// The guest on one vCPU. When it returns, the vCPU idles: KVM_RUN answers `.halt`.
    ///
    /// `GuestFault.stopped` means that the VM is gone: the program must pass it on and end.
    func run(on processor: GuestProcessor) throws(GuestFault)
}

/// A guest made of one closure, which every vCPU runs.
public struct GuestProgram: GuestAgent {
    private let body: @Sendable (GuestProcessor) throws(GuestFault) -> Void

    public init(_ body: @escaping @Sendable (GuestProcessor) throws(GuestFault) -> Void) { self.body = body }

    public func run(on processor: GuestProcessor) throws(GuestFault) { try body(processor) }
}
