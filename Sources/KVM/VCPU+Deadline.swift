internal import LinuxSystem

extension KVMVirtualCPU {
    /// KVM_RUN with a deadline: signals that come earlier are passed over.
    ///
    /// The calling thread gets `Signal.kick` when the time is up, so that a guest that spins inside KVM_RUN is stopped.
    /// - Parameter milliseconds: at least 1.
    /// - Returns: `.interrupted` only when the time was up. With `immediate_exit` set it keeps trying until then.
    public func run(within milliseconds: UInt64) throws(KVMError) -> VCPUExit {
        let alarm = try translated { () throws(LinuxError) in try ThreadAlarm(milliseconds: milliseconds) }
        while true {
            let exit = try run()
            if exit != .interrupted || alarm.hasPassed { return exit }
        }
    }
}
