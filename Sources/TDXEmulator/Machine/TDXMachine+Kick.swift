extension TDXMachine {
    /// Forces every vCPU out of guest mode once, as the kernel's OUTSIDE_GUEST_MODE request does. `mmuLock` is held.
    func kickVCPUs() {}

    /// Forces every vCPU out and keeps them out until `letVCPUsIn`.
    func holdVCPUsOut() {}

    func letVCPUsIn() {}
}
