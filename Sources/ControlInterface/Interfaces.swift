/// The interface descriptions, as `org.varlink.service.GetInterfaceDescription` returns them.
public enum InterfaceDescription {
    public static var manager: String {
        String(decoding: PackageResources.io_tdxd_Manager_varlink, as: UTF8.self)
    }
    public static var holder: String {
        String(decoding: PackageResources.io_tdxd_Holder_varlink, as: UTF8.self)
    }
}

/// Names on the wire.
public enum InterfaceName {
    public static let manager = "io.tdxd.Manager"
    public static let holder = "io.tdxd.Holder"
}
