import ControlInterface

// What the rows ask of tdxd, all of it well formed.

extension CreateRequest {
    init(name: String, memoryBytes: UInt64, vcpus: Int64, preallocate: Bool? = nil) {
        self.init(
            name: NewTrustDomainName(unchecked: name), memoryBytes: MemorySize(unchecked: Int64(memoryBytes)),
            vcpus: VCPUCount(unchecked: vcpus), preallocate: preallocate)
    }
}

extension ManagerInterface.Show.Parameters {
    init(name: String) { self.init(name: TrustDomainName(unchecked: name)) }
}

extension ManagerInterface.Stop.Parameters {
    init(name: String, policy: StopPolicy? = nil) {
        self.init(name: TrustDomainName(unchecked: name), policy: policy)
    }
}

extension ManagerInterface.Reclaim.Parameters {
    init(name: String) { self.init(name: TrustDomainName(unchecked: name)) }
}

extension ManagerInterface.Convert.Parameters {
    init(name: String, gpa: UInt64, bytes: UInt64, to side: MemorySide) {
        self.init(
            name: TrustDomainName(unchecked: name), gpa: PageAddress(unchecked: Int64(gpa)),
            bytes: PageSpan(unchecked: Int64(bytes)), to: side)
    }
}
