internal import ControlInterface
internal import Logging

extension ControlError {
    /// The error as fields of a log record: `reason` in words, and what the kernel refused apart, so that the journal can be
    /// searched by it (`TDX_STATUS=`, `TDXD_OPERATION=`, `TDXD_ERRNO=`).
    func fields(_ others: Logger.Metadata = [:]) -> Logger.Metadata {
        var fields = others
        fields["reason"] = "\(self)"
        guard case .kernelRefused(let operation, _, let errnoName, let tdxStatus, _) = self else { return fields }
        fields["operation"] = "\(operation)"
        fields["errno"] = "\(errnoName)"
        if let tdxStatus { fields["tdx_status"] = "\(tdxStatus)" }
        return fields
    }
}
