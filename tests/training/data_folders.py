"""Small data folders in the layouts that groups hold, their tables as the data sets' own documentation gives them."""

import csv
import gzip
from collections.abc import Iterable
from pathlib import Path

from handlers.findings import FINDINGS
from training.data.films import Films

CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
METADATA = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
    "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning"
)
OF_STUDIES = (
    "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,"
    "Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
)
VINDR = (
    "Aortic enlargement,Atelectasis,Calcification,Cardiomegaly,Clavicle fracture,Consolidation,Edema,Emphysema,"
    "Enlarged PA,ILD,Infiltration,Lung Opacity,Lung cavity,Lung cyst,Mediastinal shift,Nodule/Mass,Pleural effusion,"
    "Pleural thickening,Pneumothorax,Pulmonary fibrosis,Rib fracture,Other lesion,COPD,Lung tumor,Pneumonia,"
    "Tuberculosis,Other diseases,No finding"
)
PADCHEST = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,Projection,"
    "MethodProjection,Pediatric,Modality_DICOM,Manufacturer_DICOM,PhotometricInterpretation_DICOM,PixelRepresentation_DICOM,"
    "PixelAspectRatio_DICOM,SpatialResolution_DICOM,BitsStored_DICOM,WindowCenter_DICOM,WindowWidth_DICOM,Rows_DICOM,"
    "Columns_DICOM,XRayTubeCurrent_DICOM,Exposure_DICOM,ExposureInuAs_DICOM,ExposureTime,"
    "RelativeXRayExposure_DICOM,ReportID,Report,MethodLabel,Labels,Localizations,LabelsLocalizationsBySentence,labelCUIS,"
    "LocalizationsCUIS"
)
PLAIN_ROWS = [
    {"path": "a/1.png", "patient": "p1", "split": "train", "Effusion": "1", "Pleural Thickening": "0", "ward": "3b"},
    {"path": "b/1.png", "patient": "p2", "split": "val", "Effusion": "0.0", "Pleural Thickening": "", "ward": "3b"},
    {"path": "2.PNG", "patient": "p3", "split": "Test", "Effusion": "", "Pleural Thickening": "1.0", "ward": "4a"},
    {"path": "3.png", "patient": "p4", "split": "test", "Effusion": "-1", "Pleural Thickening": "0", "ward": "4a"},
]


def write(path: Path, header: str, rows: Iterable[dict[str, object]]) -> Path:
    """A table with a data set's own header; what a row does not give is blank. ``.gz`` is packed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        table = csv.DictWriter(file, header.split(","), restval="")
        table.writeheader()
        table.writerows(rows)
    return path


def touch(folder: Path, *names: str) -> None:
    """Files that nobody decodes; each differs from the others."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def chexpert(folder: Path) -> Path:
    """Four frontal training films of three patients and a lateral one; one film that radiologists read."""
    root = "CheXpert-v1.0-small"
    views = {"Sex": "Female", "Age": 68, "Frontal/Lateral": "Frontal", "AP/PA": "AP"}
    rows: list[dict[str, object]] = [
        {
            "Path": "patient00001/study1/view1_frontal",
            "No Finding": "1.0",
            "Pneumothorax": "0.0",
            "Support Devices": "1.0",
        },
        {"Path": "patient00002/study2/view1_frontal", "Cardiomegaly": "-1.0", "Edema": "1.0", "Fracture": "1.0"},
        {"Path": "patient00002/study1/view1_frontal", "Lung Lesion": "1.0", "Atelectasis": "-1.0", "AP/PA": ""},
        {"Path": "patient00002/study1/view2_lateral", "Lung Lesion": "1.0", "Frontal/Lateral": "Lateral", "AP/PA": ""},
        {"Path": "patient00003/study1/view1_frontal", "Pleural Effusion": "0.0", "Cardiomegaly": "0.0", "Sex": "Male"},
    ]
    train = [{**views, **row, "Path": f"{root}/train/{row['Path']}.jpg"} for row in rows]
    valid = dict.fromkeys(CHEXPERT.split(",")[5:], "0.0") | {"Cardiomegaly": "1.0", "Lung Opacity": "1.0"}
    path = f"{root}/valid/patient64541/study1/view1_frontal.jpg"
    write(folder / "train.csv", CHEXPERT, train)
    write(folder / "valid.csv", CHEXPERT, [{**views, **valid, "Path": path}])
    touch(folder, *(f"{row['Path']}".removeprefix(f"{root}/") for row in [*train, {"Path": path}]))
    return folder


def mimic(folder: Path, labels: str = "chexpert", packed: str = "") -> Path:
    """Five films of four studies, one of them lateral and one without a view; a study without labels."""
    films = [("aaa1", "10000032", "501", "PA", "train"), ("aaa2", "10000032", "501", "LATERAL", "train")]
    films += [("bbb1", "10000764", "502", "AP", "validate"), ("ccc1", "11000011", "503", "", "test")]
    films += [("ddd1", "11000022", "504", "AP", "test")]
    keys = ("dicom_id", "subject_id", "study_id", "ViewPosition")
    write(
        folder / f"mimic-cxr-2.0.0-metadata.csv{packed}",
        METADATA,
        [dict(zip(keys, film, strict=False)) for film in films],
    )
    studies = [
        {"subject_id": "10000032", "study_id": "501", "No Finding": "1.0"},
        {"subject_id": "10000764", "study_id": "502", "Edema": "-1.0", "Pneumonia": "1.0", "Pneumothorax": "0.0"},
        {"subject_id": "11000011", "study_id": "503", "Lung Opacity": "1.0"},
    ]
    write(folder / f"mimic-cxr-2.0.0-{labels}.csv{packed}", OF_STUDIES, studies)
    splits = [
        {"dicom_id": one, "study_id": study, "subject_id": patient, "split": split}
        for one, patient, study, _, split in films
    ]
    write(folder / f"mimic-cxr-2.0.0-split.csv{packed}", "dicom_id,study_id,subject_id,split", splits)
    touch(folder, *(f"files/p{patient[:2]}/p{patient}/s{study}/{one}.jpg" for one, patient, study, *_ in films))
    return folder


def vindr(folder: Path) -> Path:
    """Two training films by three readers each, a test film by consensus."""
    header = f"image_id,rad_id,{VINDR}"
    none = dict.fromkeys(VINDR.split(","), "0")
    marks: list[tuple[str, str, list[str]]] = [
        ("f1", "R8", ["Pleural effusion", "Nodule/Mass"]),
        ("f1", "R9", ["Pleural effusion", "Nodule/Mass", "Cardiomegaly"]),
        ("f1", "R10", ["Rib fracture"]),
        ("f2", "R8", ["No finding"]),
        ("f2", "R9", ["No finding"]),
        ("f2", "R10", ["Pulmonary fibrosis"]),
        ("f3", "R1", ["Cardiomegaly"]),
        ("f3", "R2", ["Edema"]),
        ("f3", "R3", ["No finding"]),
    ]
    rows = [{"image_id": film, "rad_id": reader, **none, **dict.fromkeys(names, "1")} for film, reader, names in marks]
    write(folder / "annotations" / "image_labels_train.csv", header, rows)
    test = VINDR.replace("Other diseases", "Other disease")
    consensus = {
        **dict.fromkeys(test.split(","), "0"),
        "image_id": "t1",
        "Pleural thickening": "1",
        "Other disease": "1",
    }
    write(folder / "annotations" / "image_labels_test.csv", f"image_id,{test}", [consensus])
    boxes = [
        {"image_id": film, "rad_id": reader, "class_name": name, "x_min": "10.5"}
        for film, reader, names in marks
        for name in names
    ]
    columns = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max"
    write(folder / "annotations" / "annotations_train.csv", columns, boxes)
    touch(folder, *(f"train/{film}.dicom" for film in ("f1", "f2", "f3")), "test/t1.dicom")
    return folder


def padchest(folder: Path) -> Path:
    """Reports that name findings, name none, say that nothing has changed, or say nothing."""
    films: list[tuple[str, str, str, str]] = [
        ("a", "1", "PA", "['pleural effusion', 'laminar atelectasis', 'pacemaker']"),
        ("b", "1", "L", "['pleural effusion']"),
        ("c", "2", "AP_horizontal", "['normal']"),
        ("d", "3", "AP", "['scoliosis', ' subcutaneous emphysema']"),
        ("e", "4", "PA", "['unchanged', 'cardiomegaly']"),
        ("f", "5", "PA", ""),
        ("g", "6", "PA", "['exclude']"),
        ("h", "7", "PA", "['hydropneumothorax', 'Reticular  interstitial pattern', 'consolidation', 'hiatal hernia']"),
    ]
    rows = [
        {
            "ImageID": f"2168{film}.png",
            "ImageDir": "12",
            "PatientID": patient,
            "Projection": view,
            "Labels": labels,
            "StudyDate_DICOM": "20130512",
            "PatientBirth": "1951.0",
            "PatientSex_DICOM": "F",
            "Report": "una, dos\ny tres .",
        }
        for film, patient, view, labels in films
    ]
    write(folder / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", PADCHEST, rows)
    touch(folder, *(f"12/2168{film}.png" for film, *_ in films))
    return folder


def plain(folder: Path, rows: Iterable[dict[str, object]], name: str = "films.csv") -> Path:
    """A plain CSV with the columns of its first row."""
    rows = list(rows)
    write(folder / name, ",".join(rows[0]), rows)
    touch(folder, *(str(row["path"]) for row in rows if row["path"]))
    return folder


def labels(films: Films, image: str) -> tuple[int, dict[str, int]]:
    """Any finding, and the 14 as far as they are labelled."""
    row = films.table["image"].tolist().index(image)
    known = {name: int(value) for name, value in zip(FINDINGS, films.diseases[row], strict=True) if value >= 0}
    return int(films.findings[row, 0]), known


def column(films: Films, name: str) -> dict[str, str]:
    return dict(zip(films.table["image"], films.table[name], strict=True))
