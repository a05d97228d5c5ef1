import ControlInterface

// What the tests send, also values that tdxd refuses.

extension CreateRequest {
    init(
        name: String, memoryBytes: UInt64, vcpus: Int, firmware: String? = nil, preallocate: Bool? = nil,
        waitMilliseconds: Int64? = nil, numa: NUMAPolicy? = nil, prefault: Bool? = nil
    ) {
        self.init(
            name: NewTrustDomainName(unchecked: name), memoryBytes: MemorySize(unchecked: Int64(memoryBytes)),
            vcpus: VCPUCount(unchecked: Int64(vcpus)), firmware: firmware.map { FirmwarePath(unchecked: $0) },
            preallocate: preallocate, waitMilliseconds: waitMilliseconds.map { CreationWait(unchecked: $0) },
            numa: numa, prefault: prefault)
    }
}

extension ManagerInterface.Show.Parameters {
    init(name: String) { self.init(name: TrustDomainName(unchecked: name)) }
}

extension ManagerInterface.Map.Parameters {
    init(name: String) { self.init(name: TrustDomainName(unchecked: name)) }
}

extension ManagerInterface.MapChanges.Parameters {
    init(name: String, since: Int64? = nil, waitMilliseconds: Int64? = nil) {
        self.init(
            name: TrustDomainName(unchecked: name), since: since.map { ChangeNumber(unchecked: $0) },
            waitMilliseconds: waitMilliseconds.map { ChangeWait(unchecked: $0) })
    }
}

extension ManagerInterface.Conversions.Parameters {
    init(name: String, last: Int64? = nil) {
        self.init(name: TrustDomainName(unchecked: name), last: last.map { ConversionCount(unchecked: $0) })
    }
}

extension ManagerInterface.Convert.Parameters {
    init(name: String, gpa: UInt64, bytes: UInt64, to side: MemorySide) {
        self.init(
            name: TrustDomainName(unchecked: name), gpa: PageAddress(unchecked: Int64(gpa)),
            bytes: PageSpan(unchecked: Int64(bytes)), to: side)
    }
}

extension ManagerInterface.Stop.Parameters {
    init(
        name: String, policy: StopPolicy? = nil, bytesPerSecond: Int64? = nil, chunkBytes: Int64? = nil,
        deadlineMilliseconds: Int64? = nil, wait: StopWait? = nil
    ) {
        self.init(
            name: TrustDomainName(unchecked: name), policy: policy,
            bytesPerSecond: bytesPerSecond.map { ReleaseRate(unchecked: $0) },
            chunkBytes: chunkBytes.map { ReleaseChunk(unchecked: $0) },
            deadlineMilliseconds: deadlineMilliseconds.map { EndDeadline(unchecked: $0) }, wait: wait)
    }
}

extension ManagerInterface.PlanStop.Parameters {
    init(name: String) { self.init(name: TrustDomainName(unchecked: name)) }
}

extension ManagerInterface.Reclaim.Parameters {
    init(name: String, bytesPerSecond: Int64? = nil) {
        self.init(
            name: TrustDomainName(unchecked: name),
            bytesPerSecond: bytesPerSecond.map { ReleaseRate(unchecked: $0) })
    }
}
